"""Dossier as an operator starts it: `python main.py --env local` in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
READY_S, STOP_S = 60, 45


class Running:
    """The stack on a data folder and a port; keeps what it prints."""

    def __init__(self, data_dir: Path, port: int, *, modules: str = "all", **settings: str) -> None:
        self.data_dir, self.port, self.modules = data_dir, port, modules
        self.base = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._settings = settings

    def start(self) -> float:
        """Seconds until it was ready."""
        started = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable, "main.py", "--env", "local", "--modules", self.modules,
                "--data-dir", str(self.data_dir), "--port", str(self.port),
            ],
            cwd=ROOT,
            env={**os.environ, **self._settings, "LOG_FORMAT": "json"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        while not self.ready():
            assert self.process.poll() is None, self.lines[-20:]
            assert time.monotonic() < started + READY_S, self.lines[-20:]
            time.sleep(0.1)
        return time.monotonic() - started

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        code = self.process.wait(STOP_S)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base}/health/ready", timeout=3) as answer:
                return bool(json.load(answer)["status"] == "ready")
        except (urllib.error.URLError, OSError):
            return False

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, *words: str) -> list[psutil.Process]:
        """Processes of the stack whose command line holds all these words."""
        found = []
        for process in self.descendants():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def events(self) -> list[dict[str, Any]]:
        """Everything printed, as objects; a line that is none fails the test."""
        odd = [line for line in self.lines if not line.startswith("{")]
        assert odd == [], odd[:20]
        found: list[dict[str, Any]] = [json.loads(line) for line in list(self.lines)]
        return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def wait_until(condition: Any, within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
