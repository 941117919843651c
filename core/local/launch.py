"""Describing a program of the stack, and starting one without supervision."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.local.folder import DataFolder

TETHER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("tether.py")))
"""Command that, given the spec file of a program, starts it tied to its parent."""


@dataclass(frozen=True)
class Program:
    """One process of the stack. `order`: lower starts earlier and stops later."""

    name: str
    command: Sequence[str]
    order: int
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop_seconds: int = 10
    """After this long the whole process group is killed."""
    log_file: Path | None = None
    """Where its output goes; without it, line by line to our own stdout."""


def write_spec(folder: DataFolder, program: Program, output: Path) -> Path:
    """What `tether.py` needs to know of a program."""
    spec = {
        "argv": [str(word) for word in program.command],
        "env": dict(program.env),
        "cwd": str(program.cwd or Path.cwd()),
        "lock": str(folder.members_lock),
        "output": str(output),
    }
    path = folder.run / f"{program.name}.json"
    # The environment of a program may hold secrets.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(spec, file)
    return path


def launch(folder: DataFolder, program: Program, output: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; it ends when the calling *thread* does."""
    return subprocess.Popen(  # noqa: S603
        [*TETHER, str(write_spec(folder, program, output))],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"DOSSIER_TETHER_PARENT": str(os.getpid())},
    )


def end(process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """Ask a program to stop, and kill its group if it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        process.wait()


def kill_group(pid: int) -> None:
    """Kill the processes that a program left or leads, if any."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
