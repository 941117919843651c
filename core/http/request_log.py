"""The log line of each request, cheaply: encoded once, written out five times a second."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from core.logging import without_secrets

EVERY_S, MOST_BYTES = 0.2, 65_536
OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


def to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class RequestLog:
    """What structlog would print; a crash loses the lines of the last fifth of a second, and nothing else."""

    def __init__(self, service: str, write: Callable[[bytes], None] = to_stdout) -> None:
        self._service, self._write = service, write
        self._lines: list[bytes] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: str, *, path: str, **fields: Any) -> None:
        """`path` alone holds what a client has sent."""
        now = datetime.now(UTC)
        common = {"ts": now, "level": "info", "service": self._service, "event": event, "path": without_secrets(path)}
        self._lines.append(line := orjson.dumps(common | fields, option=OPTIONS))
        self._bytes += len(line)
        if self._bytes > MOST_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        data, self._lines, self._bytes, self._timer = b"".join(self._lines), [], 0, None
        if data:
            self._write(data)
