"""Reads without FastAPI's detours: what a route without a body asks for is worked out once, when the server starts.

FastAPI opens four exit stacks for each request and walks its tables of parameters; for a read that is more than all
else in Python. It still describes these routes, and checks their parameters here as it does everywhere.
"""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

Direct = Callable[[Request], Awaitable[Response]]


class _Call:
    """A function of ours, and where each of its arguments comes from."""

    def __init__(self, dependant: Dependant) -> None:
        assert dependant.call is not None, "FastAPI keeps it for classes alone"
        self.function = dependant.call
        self.of_path = [field.name for field in dependant.path_params]
        self.query, self.headers = dependant.query_params, dependant.header_params
        self.defaults = {field.name: field.get_default() for field in self.query}
        self.request_name, self.response_name = dependant.request_param_name, dependant.response_param_name
        self.inner = [(inner.name, _Call(inner)) for inner in dependant.dependencies if inner.name]

    async def __call__(self, request: Request, response: Response, errors: list[Any]) -> Any:
        """None where something is wrong with the request; `errors` says what."""
        given: dict[str, Any] = {}
        for name, inner in self.inner:
            given[name] = await inner(request, response, errors)
        for name in self.of_path:
            given[name] = request.path_params[name]
        if self.query:
            is_bare = not request.scope["query_string"]
            given |= self.defaults if is_bare else self._checked(self.query, request.query_params, errors)
        if self.headers:
            given |= self._checked(self.headers, request.headers, errors)
        if self.request_name:
            given[self.request_name] = request
        if self.response_name:
            given[self.response_name] = response
        return None if errors else await self.function(**given)

    def _checked(self, fields: Sequence[Any], received: Any, errors: list[Any]) -> dict[str, Any]:
        values, found = request_params_to_args(fields, received)
        errors += found
        return values


def direct(route: APIRoute) -> Direct | None:
    """How to answer it, where it is a read; None where FastAPI has to."""
    model = route.response_model
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    if not is_model or route.methods != {"GET"} or not _is_plain(route.dependant):
        return None
    call, status = _Call(route.dependant), route.status_code or 200

    async def answer(request: Request) -> Response:
        told, errors = Response(), list[Any]()
        told.raw_headers, told.status_code = [], status
        body = await call(request, told, errors)
        if errors:
            raise RequestValidationError(errors)
        if isinstance(body, Response):
            return body
        shown = body if type(body) is model else model.model_validate(body, from_attributes=True)
        answered = Response(shown.model_dump_json(), told.status_code, media_type="application/json")
        answered.raw_headers += told.raw_headers
        return answered

    return answer


def _is_plain(dependant: Dependant) -> bool:
    """Whether all of it comes from path, query, headers, the request, and coroutines of which the same is true."""
    others = (
        dependant.body_params, dependant.cookie_params, dependant.http_connection_param_name,
        dependant.background_tasks_param_name, dependant.security_scopes_param_name,
    )  # fmt: skip
    return (
        not any(others)
        and inspect.iscoroutinefunction(dependant.call)
        and all(_is_text(field.field_info) for field in dependant.path_params)
        and all(inner.scope is None and _is_plain(inner) for inner in dependant.dependencies)
    )


def _is_text(field: Any) -> bool:
    return field.annotation is str and not field.metadata
