"""What is decided before a byte of the body is read: which route, who asks, how much may come.

The route table is built once from the routes themselves: each names its credential in OpenAPI's own words
(`security`), and a route that names none stops the start.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from starlette.routing import BaseRoute, Mount, Route, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.config import Settings
from core.errors import HeadersTooLarge, Malformed, MethodNotAllowed, NotFound, TooLarge, TooLong
from core.http.routes import StrictRoute

MAX_HEADERS, MAX_HEADER_BYTES, MAX_URI_BYTES = 100, 16_384, 8_192
BODYLESS_BYTES, JSON_BYTES = 65_536, 1_048_576
VERSION_PREFIX = "/v1"

Headers = list[tuple[bytes, bytes]]
Authenticate = Callable[[Headers], Awaitable[object]]


@dataclass(frozen=True)
class Rule:
    """One path of the table; `template` is what logs and metrics call it."""

    template: str
    pattern: re.Pattern[str]
    credentials: Mapping[str, str | None]  # method → security scheme, None = public
    limits: Mapping[str, int]


class RouteTable:
    """Finds the rule of a path by its first segment, then by pattern."""

    def __init__(self, routes: Iterable[BaseRoute], settings: Settings) -> None:
        merged: dict[str, Rule] = {}
        for route in routes:
            rule = _rule(route, settings)
            known = merged.get(rule.template)
            merged[rule.template] = rule if known is None else _joined(known, rule)
        self._by_segment: dict[str, list[Rule]] = {}
        for rule in merged.values():
            self._by_segment.setdefault(_first_segment(rule.template), []).append(rule)

    def find(self, path: str) -> Rule | None:
        rules = self._by_segment.get(_first_segment(path), ())
        return next((rule for rule in rules if rule.pattern.fullmatch(path)), None)


class Ingress:
    """Refuses what can be refused unread; hands the principal on in `scope["state"]`."""

    def __init__(self, app: ASGIApp, *, table: RouteTable, authenticators: Mapping[str, Authenticate]) -> None:
        self.app, self.table, self.authenticators = app, table, authenticators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: Headers = scope["headers"]
        _check_shape(scope, headers)
        path = scope["path"]
        if path.startswith(f"{VERSION_PREFIX}/"):
            path = path.removeprefix(VERSION_PREFIX)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        rule = self.table.find(path)
        if rule is None:
            raise NotFound
        state = scope["state"]
        state["route"], state["path"] = rule.template, path
        if method not in rule.credentials:
            raise MethodNotAllowed(_allowed(rule))
        limit = rule.limits[method]
        _check_length(headers, limit)
        scheme = rule.credentials[method]
        if scheme is not None:
            state["principal"] = await self.authenticators[scheme](headers)
        inner = {**scope, "path": path, "raw_path": path.encode(), "method": method}
        await self.app(inner, _counted(receive, limit), send)


def _rule(route: BaseRoute, settings: Settings) -> Rule:
    if isinstance(route, Mount):
        template = f"{route.path}/{{path:path}}"
        return Rule(template, compile_path(template)[0], {"GET": None}, {"GET": BODYLESS_BYTES})
    if isinstance(route, StrictRoute):
        credential, limit = route.credential, route.body_limit(settings)
    elif isinstance(route, Route) and not route.include_in_schema:  # the pages about the API itself
        credential, limit = None, None
    else:
        raise TypeError(f"{route!r} does not say who may call it")
    methods = (route.methods or set()) - {"HEAD"}
    return Rule(
        route.path,
        compile_path(route.path)[0],
        dict.fromkeys(methods, credential),
        {method: limit or (JSON_BYTES if method in {"POST", "PUT", "PATCH"} else BODYLESS_BYTES) for method in methods},
    )


def _joined(one: Rule, other: Rule) -> Rule:
    return Rule(one.template, one.pattern, {**one.credentials, **other.credentials}, {**one.limits, **other.limits})


def _allowed(rule: Rule) -> tuple[str, ...]:
    head = ("HEAD",) if "GET" in rule.credentials else ()
    return (*sorted(rule.credentials), *head)


def _first_segment(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _check_shape(scope: Scope, headers: Headers) -> None:
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URI_BYTES:
        raise TooLong


def _check_length(headers: Headers, limit: int) -> None:
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1 or any(not length.isdigit() for length in lengths):
        raise Malformed("Content-Length must be one number.")
    if lengths and int(lengths[0]) > limit:
        raise TooLarge


def _counted(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge
        return message

    return counted
