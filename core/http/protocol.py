"""How the server reads: a body stays with its sender until somebody asks for it."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES, BODY_BYTES = 16_384, 262_144
STALLED_S = 30.0


class _Reader(HttpToolsProtocol):
    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers):
            self.flow.pause_reading()  # the first `receive` resumes it, and so does an answer without one

    @property
    def is_in_body(self) -> bool:
        """While a request is at work, only a body that was asked for is read."""
        return self.cycle is not None and not self.cycle.response_complete


class PatientProtocol(asyncio.BufferedProtocol):
    """Whoever waits for a place costs the head of his request and a little more, not what a socket can hold.

    It has uvicorn's protocol and is none: uvloop hands no buffer to what is an `asyncio.Protocol`.
    """

    _buffer = memoryview(bytearray(BODY_BYTES))  # for all connections: it is emptied before the next one reads

    def __init__(self, **options: Any) -> None:
        self._reader = _Reader(**options)
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reader.connection_made(transport)  # type: ignore[arg-type]

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
        return self._buffer if self._reader.is_in_body else self._buffer[:HEAD_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.data_received(bytes(self._buffer[:nbytes]))
