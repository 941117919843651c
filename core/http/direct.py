"""From a request to its answer: what a route asks for is worked out once, when the server starts.

FastAPI describes the routes and what their parameters must be. What it would do for each request besides, four exit
stacks, a walk through tables that are empty and a look at each parameter's type, costs more than everything of ours.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined
from starlette.responses import Response

from core.errors import Unsupported
from core.strict_json import read_json

Answer = Callable[[Request], Awaitable[Response]]


class _Parameter:
    """A parameter of query or headers that stands once, or is left out."""

    def __init__(self, field: ModelField, place: str) -> None:
        self.name, self.where = field.name, (place, field.alias)
        self.key = field.alias if place == "query" else field.alias.lower().encode()
        self.default, self.validate = field.get_default(), field.validate


class _Call:
    """A function of ours, and where each of its arguments comes from."""

    def __init__(self, dependant: Dependant) -> None:
        assert dependant.call is not None, "FastAPI leaves it out for classes alone"
        self.function = dependant.call
        self.of_path = [field.name for field in dependant.path_params]
        self.query = [_Parameter(field, "query") for field in dependant.query_params]
        self.headers = [_Parameter(field, "header") for field in dependant.header_params]
        self.body = next(iter(dependant.body_params), None)
        self.request_name, self.response_name = dependant.request_param_name, dependant.response_param_name
        self.inner = [(inner.name, _Call(inner)) for inner in dependant.dependencies]
        asked = (self.inner, self.of_path, self.query, self.headers, self.body, self.response_name)
        self.asks_request_alone = self.request_name is not None and not any(asked)

    async def __call__(self, request: Request, response: Response, errors: list[Any]) -> Any:
        """None where something is wrong with the request; `errors` says what."""
        given: dict[str, Any] = {}
        for name, inner in self.inner:
            if inner.asks_request_alone:  # most of them; short, since there are several to a request
                value = await inner.function(request)
            else:
                value = await inner(request, response, errors)
            if name is not None:  # else it is there for what it refuses
                given[name] = value
        for name in self.of_path:
            given[name] = request.path_params[name]
        if self.query:
            _take(self.query, _query(request), given, errors)
        if self.headers:
            _take(self.headers, _headers(request), given, errors)
        if self.body:
            given[self.body.name] = _body(self.body, await _json(request), errors)
        if self.request_name:
            given[self.request_name] = request
        if self.response_name:
            given[self.response_name] = response
        return None if errors else await self.function(**given)


def _take(
    parameters: Sequence[_Parameter], sent: Mapping[Any, str | bytes], given: dict[str, Any], errors: list[Any]
) -> None:
    for parameter in parameters:
        text = sent.get(parameter.key)
        if text is None:
            given[parameter.name] = parameter.default
            continue
        text = text if isinstance(text, str) else text.decode("latin-1")
        given[parameter.name], found = parameter.validate(text, loc=parameter.where)
        errors += found


def _body(field: ModelField, value: Any, errors: list[Any]) -> Any:
    if value is not PydanticUndefined:
        body, found = field.validate(value, loc=("body",))
        errors += found
        return body
    if field.field_info.is_required():
        errors.append({"type": "missing", "loc": ("body",), "msg": "Field required", "input": None})
    return field.get_default()


def _headers(request: Request) -> Mapping[bytes, bytes]:
    """The first of those that stand twice."""
    return dict(reversed(request.scope["headers"]))


def _query(request: Request) -> Mapping[str, str]:
    query: bytes = request.scope["query_string"]
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {}


class _Told(Response):
    """What an endpoint says besides its body."""

    def __init__(self, status: int) -> None:
        self.status_code, self.raw_headers, self.background = status, [], None


def answering(route: APIRoute) -> Answer:
    """How to answer a request for it. Raises TypeError where it asks for what is not known here."""
    if not _is_plain(route.dependant):
        raise TypeError(f"{route.path} takes what core/http/direct.py does not give")
    call, model, status = _Call(route.dependant), route.response_model, route.status_code or 200
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    async def answer(request: Request) -> Response:
        request.scope["route"] = route
        told, errors = _Told(status), list[Any]()
        body = await call(request, told, errors)
        if errors:
            raise RequestValidationError(errors)
        if isinstance(body, Response):
            return body
        if model is None:
            answered = Response(status_code=told.status_code)
            answered.raw_headers += told.raw_headers
            return answered
        told.body = adapter.dump_json(
            body if type(body) is model else adapter.validate_python(body, from_attributes=True)
        )
        told.raw_headers += [(b"content-length", b"%d" % len(told.body)), (b"content-type", b"application/json")]
        return told

    return answer


async def _json(request: Request) -> Any:
    """The body by our own rules. Raises Unsupported, Malformed or Invalid."""
    raw = await request.body()
    if not raw:
        return PydanticUndefined
    content_type = _headers(request).get(b"content-type", b"")
    media_type, _, parameters = content_type.decode("latin-1").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if media_type.strip() != "application/json" or charset not in {"", "utf-8"}:
        raise Unsupported("The body must be application/json in UTF-8.")
    return read_json(raw)


def _is_plain(dependant: Dependant) -> bool:
    """Whether all of it comes from the request, and from coroutines of which the same is true."""
    others = (
        dependant.cookie_params, dependant.http_connection_param_name, dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
    )  # fmt: skip
    return (
        not any(others)
        and inspect.iscoroutinefunction(dependant.call)
        and all(_is_text(field.field_info) for field in dependant.path_params)
        and all(_is_one_value(field) for field in (*dependant.query_params, *dependant.header_params))
        and len(dependant.body_params) <= 1
        and all(inner.scope is None and _is_plain(inner) for inner in dependant.dependencies)
    )


def _is_text(field: Any) -> bool:
    return field.annotation is str and not field.metadata


def _is_one_value(field: ModelField) -> bool:
    """Neither a list nor a model of parameters; what is left out has a default."""
    annotation = field.field_info.annotation
    kinds = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    simple = all(kind in {str, int, float, bool, NoneType} or get_origin(kind) is Literal for kind in kinds)
    return simple and not field.field_info.is_required()
