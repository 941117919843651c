"""A whole local stack with dummy programs, as a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.local.folder import open_folder
from core.local.launch import end

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0


def eventually(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """The first true answer of `what`."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return answer


def is_running(pid: int) -> bool:
    """Whether a process lives; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Stack:
    """A running control process and what it has said so far."""

    def __init__(self, data_dir: Path, servers: str = "redis", mode: str = "") -> None:
        self.data_dir = data_dir
        self.lines: list[dict[str, Any]] = []
        self.broken: list[str] = []
        module = "tests.integration.local.control_process"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(data_dir), servers, mode], cwd=ROOT, stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.broken.append(repr(line)[:200])

    def said(self, event: str, name: str | None = None) -> list[dict[str, Any]]:
        """The lines of an event."""
        return [line for line in list(self.lines) if line["event"] == event and name in (None, line["name"])]

    def wait_for(self, event: str, name: str | None = None, count: int = 1) -> list[dict[str, Any]]:
        """The lines of an event, once there are so many."""

        def enough() -> list[dict[str, Any]]:
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            found = self.said(event, name)
            return found if len(found) >= count else []

        found: list[dict[str, Any]] = eventually(enough)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the control process only."""
        self.process.send_signal(number)

    def exit_code(self, seconds: float = PATIENCE) -> int:
        """Wait for its end."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def supervisor_pid(self) -> int:
        """Process id of its supervisord."""
        return int((self.data_dir / "run" / "supervisord.pid").read_text())

    def server_pid(self, name: str) -> int:
        """Process id of an embedded server, or 0 while it has none."""
        marks = {"mongod": "mongod", "redis": "redis-server", "s3": "juicefs"}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command, place = (entry / "cmdline").read_bytes(), os.readlink(entry / "cwd")
                except OSError:
                    continue
                if marks[name].encode() in command and place.startswith(str(self.data_dir)):
                    return int(entry.name)
        return 0

    def end(self) -> None:
        """End it, however the test went."""
        if self.process.poll() is None:
            end(self.process, seconds=PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout
        self.process.stdout.close()

    def check(self) -> None:
        """No process and no broken line is left of it."""
        assert open_folder(self.data_dir).wait_until_left(PATIENCE)
        assert not self.broken


@pytest.fixture
def run_stack() -> Iterator[Callable[..., Stack]]:
    """Starts stacks, all of them by default on one data folder whose path is short enough for a socket."""
    stacks: list[Stack] = []
    own = Path(tempfile.mkdtemp(prefix="stack-"))

    def start(data_dir: Path | None = None, **options: str) -> Stack:
        stacks.append(Stack(data_dir or own / "data", **options))
        return stacks[-1]

    try:
        yield start
    finally:
        for stack in reversed(stacks):
            stack.end()
    for stack in stacks:
        stack.check()
    shutil.rmtree(own)
