"""The outermost middleware: request id, security headers, one log line, and an answer to what nobody caught."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.ids import random_token

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")

log = structlog.get_logger("http")
_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """The id of the request or task being served; empty outside of one."""
    return _request_id.get()


def bind_request_id(request_id: str | None) -> str:
    """Takes over an id that fits, else makes one; every log line of this context carries it."""
    if request_id is None or not REQUEST_ID.fullmatch(request_id):
        request_id = "req_" + random_token(96)
    _request_id.set(request_id)
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


class RequestContext:
    """Wraps every request, also those that are refused before any route is found."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        render: Callable[[BaseException], Response],
        observe: Callable[[str, str, int, float], None],
        headers: Mapping[str, str],
    ) -> None:
        """`render` turns an exception into an answer; `observe` takes method, route, status and seconds."""
        self.app, self.render, self.observe, self.headers = app, render, observe, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        request_id = bind_request_id(_header(scope["headers"], b"x-request-id"))
        scope.setdefault("state", {})
        started, status, is_unread = time.perf_counter(), 0, _has_body(scope["headers"])

        async def taken() -> Message:
            nonlocal is_unread
            message = await receive()
            is_unread = message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=list(message["headers"]))
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = request_id
                if is_unread:  # or the server would go on to take, for nothing, what was refused
                    headers["Connection"] = "close"
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            await self.app(scope, taken, answer)
        except ClientDisconnect:  # in the middle of a body: nobody is left to be answered
            return
        except Exception as error:
            response = self.render(error)
            if response.status_code >= 500 and response.status_code != 503:
                log.exception("unhandled_error")
            if status:  # the answer is under way: closing the connection is all that is left
                raise
            await response(scope, receive, answer)
        finally:
            self._report(scope, status, time.perf_counter() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        route = state.get("route", "other")
        status = status or 499  # the client went away before an answer
        self.observe(scope["method"], route, status, seconds)
        log.info(
            "request",
            method=scope["method"],
            path=state.get("path", route),
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            principal=getattr(state.get("principal"), "id", None),
        )


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)
