"""Our processes, to be killed and frozen, and waiting for what comes of it."""

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import psutil

from core.local.folder import DataFolder
from core.local.launch import Program, kill_group, launch
from tests.integration.running import ROOT

LEASE_S, INTERVAL_S = 2, 1
FULL = os.environ.get("FAULTS") == "full"
PATIENCE = 10  # a deadline is so many times the expected time
START_S = 6
MODULE = "tests.integration.faults.mutated"


def many(quick: int, full: int) -> int:
    """How many of something: the size of the default run, or that of `make faults`."""
    return full if FULL else quick


async def until(condition: Callable[[], Any], expected_s: float, what: str, patience: float = PATIENCE) -> float:
    """Seconds until the condition (a function or a coroutine function) held; fails at ten times the expected time."""
    started = time.monotonic()
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        seconds = time.monotonic() - started
        if found:
            return seconds
        assert seconds < expected_s * patience, f"not within {expected_s * patience:.0f} s: {what}"
        await asyncio.sleep(0.05)


class Process:
    """One of our processes, in a session of its own; everything it prints is kept."""

    def __init__(self, folder: DataFolder, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.name, self._log = name, folder.log_file(name)
        self._is_wanted = True
        program = Program(name=name, command=[sys.executable, "-m", *command], order=0, env=env, cwd=ROOT)
        self._process = launch(folder, program, self._log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def check(self) -> None:
        """A process that ended by itself fails the test, with its last words."""
        assert not self._is_wanted or self.is_running(), f"{self.name} ended: {self.text()[-2000:]}"

    def children(self) -> list[psutil.Process]:
        """The children of a Celery worker; the readers that they start are not meant."""
        return [child for child in psutil.Process(self.pid).children() if child.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        """As a power cut would: the process and everything it started."""
        self._is_wanted = False
        self._process.kill()
        kill_group(self.pid)
        self._process.wait()

    def stop(self, within_s: float) -> int:
        """SIGTERM; the exit code."""
        self._is_wanted = False
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(within_s)

    def text(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What it logged, one object per line."""
        found = []
        for line in self.text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict) and name in (None, event.get("event")):
                    found.append(event)
        return found


class Api(Process):
    """The API; `person` is signed in once `ready` has passed."""

    def __init__(self, folder: DataFolder, name: str, port: int, env: Mapping[str, str]) -> None:
        self.base = f"http://127.0.0.1:{port}"
        options = ["--factory", "--host=127.0.0.1", f"--port={port}", "--no-access-log"]
        super().__init__(folder, name, ["uvicorn", f"{MODULE}:api", *options], env)

    async def ready(self) -> None:
        async with httpx.AsyncClient(base_url=self.base) as http:

            async def answers() -> bool:
                self.check()
                try:
                    return (await http.get("/health", timeout=2)).status_code == 200
                except httpx.TransportError:
                    return False

            await until(answers, START_S, "the API answers")
