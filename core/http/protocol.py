"""How the server reads: a body stays with its sender until somebody asks for it."""

import asyncio
from contextvars import copy_context
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from core import tracing
from core.errors import Malformed
from core.http.problems import problem_response

HEAD_BYTES, BODY_BYTES = 16_384, 262_144
FILE_BYTES = 983_040  # of a body that announces more: fewer turns, and below what malloc asks the system for
STALLED_S = 30.0


class _Reader(HttpToolsProtocol):
    body_bytes = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        lengths = [value for name, value in self.headers if name in {b"content-length", b"transfer-encoding"}]
        if lengths:
            self.flow.pause_reading()  # the first `receive` resumes it, and so does an answer without one
        is_long = any(value.isdigit() and int(value) > FILE_BYTES for value in lengths)
        self.body_bytes = FILE_BYTES if is_long else BODY_BYTES

    def on_body(self, body: bytes) -> None:
        """A large piece goes on as it is: uvicorn would copy it twice. Small ones are gathered, as uvicorn does."""
        cycle: Any = self.cycle
        if not cycle.body and len(body) > HEAD_BYTES:
            cycle.body = b""  # adding to nothing is no copy
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Joining(transport, self))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.transport.forget()  # type: ignore[attr-defined]

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser cannot read is no request: nobody else would answer it in our form."""
        self.transport.write(copy_context().run(_unreadable))
        self.transport.close()

    @property
    def wanted_bytes(self) -> int:
        """While a request is at work, only a body that was asked for is read."""
        in_body = self.cycle is not None and not self.cycle.response_complete
        return self.body_bytes if in_body else HEAD_BYTES


def _unreadable() -> bytes:
    request_id = tracing.begin().request_id
    answer = problem_response(Malformed())
    headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
    return b"".join([STATUS_LINE[400], *(b"%s: %s\r\n" % header for header in headers), b"\r\n", answer.body])


class _Joining:
    """A transport that keeps the head of an answer until its body comes: uvloop makes a system call of each write."""

    def __init__(self, transport: Any, reader: _Reader) -> None:
        self._transport, self._reader = transport, cast(_Reader | None, reader)
        self._head, self._answered = b"", None
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._reader is None:  # the connection is gone
            return
        cycle: Any = self._reader.cycle
        if self._head:
            head, self._head = self._head, b""
            if data:
                self._transport.writelines([head, data])
            else:
                self._transport.write(head)
        elif cycle is not None and cycle.response_started and cycle is not self._answered:
            self._head, self._answered = data, cycle
        else:  # more of a body, or a word before the answer
            self._transport.write(data)

    def forget(self) -> None:
        """Else reader and transport would hold each other, and what came of a body, until the collector looks."""
        self._head, self._answered, self._reader = b"", None, None

    def flush(self) -> None:
        if self._head:  # of an answer without a body
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()


class PatientProtocol(asyncio.BufferedProtocol):
    """Whoever waits for a place costs the head of his request and a little more, not what a socket can hold.

    It has uvicorn's protocol and is none: uvloop hands no buffer to what is an `asyncio.Protocol`.
    """

    _buffer = memoryview(bytearray(FILE_BYTES))  # for all connections: it is emptied before the next one reads

    def __init__(self, **options: Any) -> None:
        self._reader = _Reader(**options)
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reader.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_longer_stalled()
        self._reader.connection_lost(exc)

    def eof_received(self) -> None:
        self._reader.eof_received()

    def pause_writing(self) -> None:
        """A client who takes nothing for so long is let go: his download holds a place, and memory."""
        self._stalled = asyncio.get_running_loop().call_later(STALLED_S, self._reader.transport.abort)
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        self._no_longer_stalled()
        self._reader.resume_writing()

    def _no_longer_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[: self._reader.wanted_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.data_received(self._buffer[:nbytes])  # type: ignore[arg-type]  # copied by the parser
