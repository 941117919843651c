"""What is decided before a byte of the body is read: shape, place, route, who asks, how often; then how much may come.

An ASGI middleware, because FastAPI reads the whole body before the first dependency runs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import (
    AppError,
    HeadersTooLarge,
    Invalid,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    TooLarge,
    TooLong,
    TooMany,
    Unauthenticated,
)
from core.http.client_address import ClientAddress, network_of
from core.http.principal import Principal
from core.http.receiving import AnswerDeadline, Arrival, Deadlines
from core.http.route_table import Operation, RouteTable, Rule
from core.security.ratelimit import Limiter, Rate

MAX_HEADERS, MAX_HEADER_BYTES, MAX_URI_BYTES = 100, 16_384, 8_192
MAX_WAITING = 200
HEADER_OF = {"bearer": b"authorization", "api_key": b"x-api-key", "private_token": b"private-token"}
# Those who watch over the service are answered when nobody else is, whatever name they call it by.
HEALTH, WATCHERS = "/health", frozenset({"/health", "/health/ready", "/metrics"})

REFUSALS = (AppError, RequestValidationError, HTTPException)  # the last is Starlette's, of a form it cannot read

Headers = list[tuple[bytes, bytes]]
Identify = Callable[[Headers], Principal]  # each raises Unauthenticated
Confirm = Callable[[Principal], Awaitable[None]]


class Places:
    """How many requests are inside at once; those that only wait for a change have places of their own."""

    def __init__(self, working: int, waiting: int) -> None:
        self._free = {"working": working, "waiting": waiting}
        self.working = working

    @property
    def taken(self) -> int:
        """By requests that do not just wait."""
        return self.working - self._free["working"]

    def has(self, kind: str) -> bool:
        return self._free[kind] > 0

    def take(self, kind: str) -> None:
        """To be given back. Raises Overloaded."""
        if not self.has(kind):
            raise Overloaded
        self._free[kind] -= 1

    def give_back(self, kind: str) -> None:
        self._free[kind] += 1


class GeneralLimit:
    """So many requests a minute for each principal, and for each network of those who have none."""

    def __init__(self, limiter: Limiter, per_minute: int) -> None:
        self._limiter = limiter
        self._rate = Rate.per_minute(per_minute) if per_minute else None

    def take(self, kind: str, name: str) -> Awaitable[int]:
        """0, or the seconds to wait. It is asked now; to be awaited in any case."""
        if self._rate is None:
            return _nothing()
        return self._limiter.take(self._limiter.key(f"general:{kind}", name), self._rate)

    async def charge(self, kind: str, name: str) -> None:
        """Raises TooMany."""
        if wait_s := await self.take(kind, name):
            raise TooMany(wait_s)


class Ingress:
    """Refuses what can be refused unread; hands principal and network on in `scope["state"]`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        table: RouteTable,
        identify: Mapping[str, Identify],
        confirm: Confirm,
        limit: GeneralLimit,
        render: Callable[[BaseException], Response],
        max_in_flight: int = 2048,
        trusted_proxies: Sequence[str] = (),
        allowed_hosts: Sequence[str] = (),
        deadlines: Deadlines | None = None,
    ) -> None:
        """`identify`: by scheme, from the headers alone; `confirm`: whether a person is still signed in."""
        self.app, self.table, self.limit, self.render = app, table, limit, render
        self.identify, self.confirm = identify, confirm
        self.places = Places(max_in_flight, MAX_WAITING)
        self.client_address = ClientAddress(trusted_proxies)
        self.allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self.deadlines = deadlines or Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self._enter(scope, receive, send)
        except REFUSALS as refusal:  # answered here, inside of CORS, so that browsers may read it
            await self.render(refusal)(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        path: str = scope["path"]
        if path.startswith("/v1/"):
            path = path[3:]
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        length = _checked_length(scope, headers)
        if path not in WATCHERS:
            self._check_host(headers)
        rule, parameters = self.table.find(path)
        operation = rule.operations.get(method) if rule else None
        if length > (operation or Operation()).body_limit:
            raise TooLarge
        scope["state"]["network"] = network_of(self.client_address.of(scope))
        inner = {**scope, "path": path, "raw_path": path.encode(), "method": method, "path_params": parameters}
        if path == HEALTH:
            await self._pass(operation, rule, inner, receive, send)
            return
        kind = "working"
        if operation is not None and operation.may_wait and _asks_to_wait(scope["query_string"]):
            if self.places.has("waiting"):
                kind = "waiting"
            else:
                inner["query_string"] = _without_wait(scope["query_string"])
        self.places.take(kind)
        try:
            await self._pass(operation, rule, inner, receive, send)
        finally:
            self.places.give_back(kind)

    async def _pass(
        self, operation: Operation | None, rule: Rule | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        operation = await self._admitted(operation, rule, scope)
        _check_parameters(scope["query_string"], operation)
        deadlines = self.deadlines
        seconds: float | None = deadlines.waiting_answer_s if operation.may_wait else deadlines.answer_s
        if operation.takes_files:  # a large body has its own slowest rate, and its checks take their time
            seconds = None
        arrival = Arrival(receive, operation.body_limit, deadlines)
        answer = AnswerDeadline(seconds, arrival, send)
        try:
            async with answer:
                if operation.answer is None:
                    await self.app(scope, answer.receive, answer.send)
                else:
                    response = await operation.answer(Request(scope, answer.receive))
                    await response(scope, answer.receive, answer.send)
        except REFUSALS as error:
            if answer.has_begun:  # too late for another one: the connection is closed
                raise RuntimeError("failed while answering") from error
            raise

    async def _admitted(self, operation: Operation | None, rule: Rule | None, scope: Scope) -> Operation:
        """Who asks is charged for it: a principal, or the network of those who cannot say."""
        state, path = scope["state"], scope["path"]
        try:
            if rule is None:
                raise NotFound
            state["route"], state["path"] = rule.template, path
            if operation is None:
                raise MethodNotAllowed(rule.allowed)
            if operation.credentials:
                await self._admit_principal(self._principal(operation.credentials, scope["headers"]), state)
        except (NotFound, MethodNotAllowed, Unauthenticated):
            await self.limit.charge("network", state["network"])
            raise
        if not operation.credentials and path not in WATCHERS:
            await self.limit.charge("network", state["network"])
        return operation

    def _principal(self, credentials: Sequence[str], headers: Headers) -> Principal:
        """By the credential that was sent; where several will do and none was, the first is asked for."""
        names = dict(headers)
        sent = [credential for credential in credentials if HEADER_OF[credential] in names]
        if len(sent) > 1:
            raise Malformed("Send one credential.")
        return self.identify[(sent or credentials)[0]](headers)

    async def _admit_principal(self, principal: Principal, state: dict[str, Any]) -> None:
        taking = self.limit.take("principal", principal.id)  # before the other question: both go in one round trip
        try:
            if principal.kind != "service":
                await self.confirm(principal)
            state["principal"] = principal
        finally:
            wait_s = await taking
        if wait_s:
            raise TooMany(wait_s)

    def _check_host(self, headers: Headers) -> None:
        if not self.allowed_hosts:
            return
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        name = hosts[0].rpartition(":")[0] if hosts and hosts[0].rpartition(":")[2].isdigit() else "".join(hosts)
        if len(hosts) != 1 or name not in self.allowed_hosts:
            raise Malformed("This host is not served here.")


async def _nothing() -> int:
    return 0


def _checked_length(scope: Scope, headers: Headers) -> int:
    """Bytes that the body is said to have."""
    if len(headers) > MAX_HEADERS or sum(map(len, chain.from_iterable(headers))) > MAX_HEADER_BYTES:
        raise HeadersTooLarge
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URI_BYTES:
        raise TooLong
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1 or any(not length.isdigit() for length in lengths):
        raise Malformed("Content-Length must be one number.")
    return int(lengths[0]) if lengths else 0


def _check_parameters(query: bytes, operation: Operation) -> None:
    """A parameter that stands twice would mean one thing to us and another to what stands in front of us."""
    if b"&" not in query:
        return
    names = [name for name, _ in _parsed(query)]
    for name in operation.parameters:
        if names.count(name) > 1:
            raise Invalid("The parameter may stand once.", pointer=f"/{name}", rule="repeated")


def _asks_to_wait(query: bytes) -> bool:
    return bool(query) and any(name == "wait" for name, _ in _parsed(query))


def _without_wait(query: bytes) -> bytes:
    return urlencode([(name, value) for name, value in _parsed(query) if name != "wait"]).encode()


def _parsed(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)
