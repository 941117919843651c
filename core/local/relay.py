"""Bringing the output of several programs to one stream, whole line by whole line."""

import os
import selectors
import threading
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 16


class LineRelay:
    """One FIFO per program, so that no line of one is broken by a line of another."""

    def __init__(self, target: BinaryIO) -> None:
        self._target: BinaryIO | None = target
        self._selector = selectors.DefaultSelector()
        self._keepers: list[int] = []
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)

    def add(self, path: Path) -> None:
        """Make a FIFO and read from it; before `start`."""
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        # Our own writing end keeps the FIFO open while a program is restarted.
        self._keepers.append(os.open(path, os.O_WRONLY))
        self._selector.register(reader, selectors.EVENT_READ, bytearray())

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Pass on what the programs, which have ended, left behind."""
        for keeper in self._keepers:
            os.close(keeper)
        if self._thread.ident:
            self._thread.join(5)

    def _run(self) -> None:
        while self._selector.get_map():
            for key, _ in self._selector.select():
                self._read(key.fd, key.data)
        self._selector.close()

    def _read(self, reader: int, pending: bytearray) -> None:
        chunk = os.read(reader, _CHUNK)
        pending += chunk
        if not chunk:
            self._selector.unregister(reader)
            os.close(reader)
        end = pending.rfind(b"\n") + 1 if chunk else len(pending)
        self._write(bytes(pending[:end]))
        del pending[:end]

    def _write(self, lines: bytes) -> None:
        if self._target is None or not lines:
            return
        try:
            self._target.write(lines)
            self._target.flush()
        except (OSError, ValueError):
            # Nobody listens any more; the programs must not stall for that.
            self._target = None
