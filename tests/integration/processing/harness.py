"""Runs real children over bytes and tells what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.documents.adapter.registry import BUILT_IN, EXTRACT, InstalledProcessors
from app.documents.adapter.runner import CHILD, ChildProcessRunner, run_workdir
from app.documents.domain.limits import Limits
from app.documents.domain.processors import (
    PDF,
    Completed,
    Extraction,
    Failed,
    RegisteredProcessor,
    RunOutcome,
    RunRequest,
    StopFlag,
)

MODULE = CHILD.parent.parent
FAKE_LIMITS = Limits(memory_mib=512, cpu_s=5, wall_s=10, stall_s=3, out_mib=64)
FAKE_HEAD = """
import json, os, signal, sys, time

def say(ev, **fields):
    sys.stdout.write(json.dumps({"ev": ev, **fields}) + "\\n")
    sys.stdout.flush()

def opened(pages=3):
    say("ready")
    say("open", kind="pdf", pages=pages, metadata={}, remarks=[])

def page(number, text="words"):
    say("page", number=number, width=1, height=1, text=text)
"""


@dataclass
class Ran:
    """An outcome, the progress on the way, and the files as they were before the workdir went."""

    outcome: RunOutcome
    progress: list[tuple[int, str]]
    files: dict[str, bytes]
    seconds: float

    @property
    def completed(self) -> Completed:
        assert isinstance(self.outcome, Completed), self.outcome
        return self.outcome

    @property
    def extraction(self) -> Extraction:
        assert isinstance(self.completed.result, Extraction)
        return self.completed.result

    @property
    def code(self) -> str:
        assert isinstance(self.outcome, Failed), self.outcome
        return self.outcome.code

    @property
    def warnings(self) -> list[tuple[int | None, str]]:
        return [(warning.page, warning.code) for warning in self.completed.warnings]

    @property
    def texts(self) -> list[str]:
        """The fields of text.txt: the n-th is page n."""
        return self.files["text.txt"].decode().split("\f")


@dataclass
class Bench:
    """A runner with the built-in processors and `more`; `child` is the program of the children."""

    root: Path
    child: Path = CHILD
    more: tuple[RegisteredProcessor, ...] = ()
    stop: StopFlag = field(default_factory=StopFlag)

    def run(
        self,
        content: bytes,
        content_type: str = PDF,
        processor: str = "extract",
        options: Mapping[str, Any] | None = None,
        prepare: Callable[[Path], None] = lambda workdir: None,
    ) -> Ran:
        by_name = {one.name: one for one in (*BUILT_IN, *self.more)}
        runner = ChildProcessRunner(InstalledProcessors(by_name.values()), child=self.child)
        progress: list[tuple[int, str]] = []
        with run_workdir(self.root) as workdir:
            original = workdir / "original"
            original.write_bytes(content)
            prepare(workdir)
            request = RunRequest(processor, original, content_type, workdir, "run-key", options or {})
            started = time.monotonic()
            outcome = runner.run(request, self.stop, lambda percent, message: progress.append((percent, message)))
            seconds = time.monotonic() - started
            files = {path.name: path.read_bytes() for path in getattr(outcome, "files", ())}
        assert not list(self.root.iterdir()), "the workdir stayed behind"
        assert [percent for percent, _ in progress] == sorted(percent for percent, _ in progress)
        return Ran(outcome, progress, files, seconds)

    def stop_after(self, seconds: float, reason: Any = "cancelled") -> None:
        threading.Timer(seconds, self.stop.stop, [reason]).start()


def extract_within(**limits: float) -> RegisteredProcessor:
    """The built-in `extract` with other limits."""
    return dataclasses.replace(EXTRACT, limits=EXTRACT.limits._replace(**limits))  # type: ignore[arg-type]


def fake(root: Path, script: str, **limits: float) -> Bench:
    """A bench whose children run `script` instead of reading anything; the processor is named `extract`."""
    child = root.parent / f"{root.name}-fake.py"
    child.write_text(FAKE_HEAD + textwrap.dedent(script))
    processor = dataclasses.replace(
        EXTRACT, thumbnails={}, limits=FAKE_LIMITS._replace(**limits)  # type: ignore[arg-type]
    )  # fmt: skip
    return Bench(root, child, (processor,))


def mutant(root: Path, file: str, *changes: tuple[str, str]) -> Path:
    """The child of a copy of the reading code in which `file` is changed."""
    copy = root.parent / f"{root.name}-mutant"
    for folder in ("adapter", "domain"):
        shutil.copytree(
            MODULE / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
    path = copy / file
    source = path.read_text("utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {file}"
        source = source.replace(old, new)
    path.write_text(source, "utf-8")
    return copy / "adapter" / "child.py"


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def children_of(pid: int) -> list[int]:
    """Living reading children whose parent is `pid`; the servers that other tests started are not meant."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            reads = b"job.json" in entry.with_name("cmdline").read_bytes()
            if int(parent) == pid and state != "Z" and reads:
                found.append(int(entry.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """What the condition gives once it gives something; fails after so many seconds."""
    for value in _polled(condition, seconds):
        if value:
            return value
    raise AssertionError(f"not within {seconds} s")


def _polled(condition: Callable[[], Any], seconds: float) -> Iterator[Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield condition()
        time.sleep(0.01)
