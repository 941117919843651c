"""Who asked for what is being done: one request id and one W3C trace, from a request to all that it leads to.

Both are taken over from callers where they have the form (https://www.w3.org/TR/trace-context/) and decide nothing.
`carried()` is what messages and rows keep of it; `work()` goes on with that, wherever and whenever it is done.
"""

import re
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, NamedTuple

from core.ids import random_token

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Of version 00 nothing may follow; what a later one adds is ignored.
_PARENT: Final = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = rf"(?:{_KEY}=[ -+\--<>-~]{{0,255}}[!-+\--<>-~])?"
_STATE: Final = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER}){{0,31}}")
_MAX_STATE = 512
_HEADERS: Final = frozenset({b"x-request-id", b"traceparent", b"tracestate"})

Kind = Literal["SERVER", "CONSUMER", "CLIENT"]


class Trace(NamedTuple):
    """One piece of work; `parent_id` is what asked for it, `state` belongs to callers and is only passed on."""

    request_id: str
    trace_id: str
    span_id: str
    parent_id: str
    is_sampled: bool
    state: str

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-0{self.is_sampled:d}"


class Span(NamedTuple):
    """A piece of work that has ended, for whoever collects them."""

    name: str
    kind: Kind
    trace: Trace
    seconds: float
    attributes: dict[str, str | int]
    is_error: bool


Export = Callable[[Span], None]

_current: ContextVar[Trace | None] = ContextVar("trace", default=None)
_export: Export | None = None
_share = 0.0


def export_to(export: Export | None, share: float) -> None:
    """`share` of the traces that begin here are sampled; those of callers are where the caller says so."""
    global _export, _share
    _export, _share = export, share


def current_request_id() -> str:
    """The id of the request or task being served; empty outside of one."""
    trace = _current.get()
    return trace.request_id if trace else ""


def begin(request_id: str | None = None, traceparent: str | None = None, tracestate: str | None = None) -> Trace:
    """Takes over what fits and makes the rest; every log line of this context carries it."""
    fresh = random_token(288)
    if request_id is None or not REQUEST_ID.fullmatch(request_id):
        request_id = "req_" + fresh[48:]
    found = _PARENT.fullmatch(traceparent) if traceparent else None
    if found:
        state = tracestate if tracestate and len(tracestate) <= _MAX_STATE and _STATE.fullmatch(tracestate) else ""
        trace = Trace(request_id, found[1], fresh[:16], found[2], bool(int(found[3], 16) & 1), state)
    else:
        is_sampled = _share > 0 and int(fresh[16:30], 16) < _share * 2**56
        trace = Trace(request_id, fresh[16:48], fresh[:16], "", is_sampled, "")
    _current.set(trace)
    return trace


def begin_request(headers: Sequence[tuple[bytes, bytes]]) -> Trace:
    """`headers`: as ASGI gives them. One that comes twice is joined, so that only `tracestate` may."""
    if _HEADERS.isdisjoint(dict(headers)):
        return begin()
    given: dict[bytes, str] = {}
    for name, value in headers:
        if name in _HEADERS:
            text = value.decode("latin-1")
            given[name] = f"{given[name]},{text}" if name in given else text
    return begin(given.get(b"x-request-id"), given.get(b"traceparent"), given.get(b"tracestate"))


def carried() -> str:
    """For a message or a row that leads to more work; empty where nobody asked."""
    trace = _current.get()
    return f"{trace.traceparent} {trace.request_id} {trace.state}".rstrip() if trace else ""


@contextmanager
def work(name: str, carried: str, request_id: str | None = None) -> Iterator[None]:
    """A span of its own for what was asked for earlier; `request_id`: all that a message of an old version has."""
    before = _current.get()
    traceparent, known, state = (*carried.split(" ", 2), "", "", "")[:3]
    trace = begin(known or request_id, traceparent, state)
    started, is_error = time.perf_counter(), True
    try:
        yield
        is_error = False
    finally:
        record(name, "CONSUMER", trace, time.perf_counter() - started, {}, is_error=is_error)
        _current.set(before)


class Call:
    """A request of ours to somebody else."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.status: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """For everybody, strangers too."""
        return {"x-request-id": self.trace.request_id, "traceparent": self.trace.traceparent}

    @property
    def headers_for_ours(self) -> dict[str, str]:
        """For services of the same operator: `tracestate` is nobody else's business."""
        return {**self.headers, **({"tracestate": self.trace.state} if self.trace.state else {})}


@contextmanager
def calling(method: str, host: str) -> Iterator[Call]:
    """A span for one request that goes out; the caller sets `status`."""
    around = _current.get()
    span_id = random_token(64)
    trace = around._replace(span_id=span_id, parent_id=around.span_id) if around else begin()
    call, started = Call(trace), time.perf_counter()
    try:
        yield call
    finally:
        _current.set(around)
        attributes: dict[str, str | int] = {"http.request.method": method, "server.address": host}
        if call.status is not None:
            attributes["http.response.status_code"] = call.status
        is_error = call.status is None or call.status >= 400
        record(method, "CLIENT", trace, time.perf_counter() - started, attributes, is_error=is_error)


def record(
    name: str, kind: Kind, trace: Trace, seconds: float, attributes: dict[str, str | int], *, is_error: bool
) -> None:
    """Hands a span that ends now to whoever collects them."""
    if _export is not None and trace.is_sampled:
        _export(Span(name, kind, trace, seconds, attributes, is_error))


def add_ids(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog."""
    trace = _current.get()
    if trace is not None:
        event["request_id"], event["trace_id"], event["span_id"] = trace.request_id, trace.trace_id, trace.span_id
    return event
