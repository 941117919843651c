"""The outermost middleware: request id, security headers, one log line, and an answer to what nobody caught."""

import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.tracing import Trace, begin_request, record

log = structlog.get_logger("http")

UNKNOWN_CHARS = 256  # of a path that is none of ours


class RequestContext:
    """Wraps every request, also those that are refused before any route is found."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        render: Callable[[BaseException], Response],
        observe: Callable[[str, str, int, float], None],
        headers: Mapping[str, str],
        tell: Callable[..., None] = log.info,
    ) -> None:
        """`render` turns an exception into an answer; `observe` takes method, route, status and seconds."""
        self.app, self.render, self.observe, self.tell = app, render, observe, tell
        self.headers = {name.lower().encode(): value.encode() for name, value in headers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        trace = begin_request(scope["headers"])
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
                given = dict(message["headers"])
                told = self.headers if self.headers.keys().isdisjoint(given) else self._without(given)
                headers = [*message["headers"], (b"x-request-id", trace.request_id.encode()), *told.items()]
                if is_unread:  # or the server would go on to take, for nothing, what was refused
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
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
            self._report(scope, trace, status, time.perf_counter() - started)

    def _report(self, scope: Scope, trace: Trace, status: int, seconds: float) -> None:
        state = scope["state"]
        route = state.get("route", "other")
        status = status or 499  # the client went away before an answer
        self.observe(scope["method"], route, status, seconds)
        self.tell(
            "request",
            request_id=trace.request_id,
            trace_id=trace.trace_id,
            span_id=trace.span_id,
            method=scope["method"],
            path=state.get("path") or scope["path"][:UNKNOWN_CHARS],
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            principal=getattr(state.get("principal"), "id", None),
        )
        if trace.is_sampled:
            told = {"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status}
            record(f"{scope['method']} {route}", "SERVER", trace, seconds, told, is_error=status >= 500)

    def _without(self, given: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        return {name: value for name, value in self.headers.items() if name not in given}


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    given = dict(headers)
    return b"transfer-encoding" in given or given.get(b"content-length", b"0") != b"0"
