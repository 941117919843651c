"""One attempt of a processor: children one after another, what they say made into files and an outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.documents.adapter.child_lines import BadLine, Done, Fatal, Handover, Image, Line
from app.documents.adapter.collector import Collector
from app.documents.adapter.language import UNKNOWN, detect
from app.documents.adapter.supervisor import Bounds, Ending, watch
from app.documents.domain import limits
from app.documents.domain.limits import MIB, Limits
from app.documents.domain.processors import (
    Completed,
    ErrorCode,
    Extraction,
    Failed,
    ProcessorRegistry,
    RegisteredProcessor,
    Report,
    RunOutcome,
    RunRequest,
    StopFlag,
    Stopped,
    StopReason,
    Usage,
)

CHILD = Path(__file__).with_name("child.py")
WORKDIR_PREFIX = "dossier-run-"
READ_FROM, READ_TO, THUMBNAIL_AT, LANGUAGE_AT = 5, 90, 92, 94

log = logging.getLogger(__name__)


@contextlib.contextmanager
def run_workdir(root: Path) -> Iterator[Path]:
    """A folder for one attempt, for this user only, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=WORKDIR_PREFIX, dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_workdirs(root: Path, *, now: float | None = None) -> int:
    """Remove what killed workers left behind more than an hour ago; the number of folders removed."""
    before = (time.time() if now is None else now) - limits.LEFTOVER_AFTER_S
    old = [folder for folder in root.glob(f"{WORKDIR_PREFIX}*") if _is_older(folder, before)]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


def _is_older(folder: Path, than: float) -> bool:
    with contextlib.suppress(FileNotFoundError):  # its worker has just ended with it
        return folder.lstat().st_mtime < than
    return False


class ChildProcessRunner:
    """Runs processors in children of this process; `run` blocks and belongs in a thread of its own."""

    def __init__(self, registry: ProcessorRegistry, *, child: Path = CHILD) -> None:
        self._registry, self._program = registry, child

    def run(self, request: RunRequest, stop: StopFlag, report: Report) -> RunOutcome:
        """One whole attempt. Raises LookupError for an unknown processor, ValidationError for its options."""
        processor = self._registry.find(request.processor)
        if processor is None:
            raise LookupError(f"processor {request.processor!r} is not installed here")
        progress = _Progress(report)
        needed = [name for name in processor.needs if not (_need(request, name) / "result.json").exists()]
        step = (READ_TO - READ_FROM) / 2 / max(len(needed), 1)
        read: list[Completed] = []
        for index, name in enumerate(needed):
            progress.span = (READ_FROM + index * step, READ_FROM + (index + 1) * step)
            outcome = self._run_needed(request, name, stop, progress)
            if not isinstance(outcome, Completed):
                return outcome
            read.append(outcome)
        progress.span = (READ_FROM + len(needed) * step, READ_TO)
        outcome = _Attempt(self._program, processor, request, request.workdir, stop, progress).run()
        return _on_top_of(outcome, read)

    def _run_needed(self, request: RunRequest, name: str, stop: StopFlag, progress: _Progress) -> RunOutcome:
        processor = self._registry.find(name)
        if processor is None:
            raise LookupError(f"processor {name!r} is not installed here")
        folder = _need(request, name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        outcome = _Attempt(self._program, processor, request, folder, stop, progress, needed=True).run()
        if isinstance(outcome, Completed):
            (folder / "result.json").write_text(json.dumps(outcome.value()), "utf-8")
        return outcome


def _on_top_of(outcome: RunOutcome, read: list[Completed]) -> RunOutcome:
    """What was made of partial results is partial, for their reasons."""
    if not isinstance(outcome, Completed):
        return outcome
    warnings = (*(warning for one in read for warning in one.warnings), *outcome.warnings)
    partial = outcome.partial or any(one.partial for one in read)
    return dataclasses.replace(outcome, partial=partial, warnings=warnings[: limits.WARNINGS])


def _need(request: RunRequest, name: str) -> Path:
    return request.workdir / "needs" / name


class _Progress:
    """Progress within a span of the whole, never back; says something only when it changed."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._said: tuple[int, str] = (0, "")
        self.span = (float(READ_FROM), float(READ_TO))

    def part(self, done: float, total: float, message: str) -> None:
        low, high = self.span
        self.at(int(low + (high - low) * min(done / total, 1)) if total else int(low), message)

    def at(self, percent: int, message: str) -> None:
        now = (max(percent, self._said[0]), message)
        if now != self._said:
            self._said = now
            self._report(*now)


class _Attempt:
    def __init__(
        self,
        program: Path,
        processor: RegisteredProcessor,
        request: RunRequest,
        folder: Path,
        stop: StopFlag,
        progress: _Progress,
        *,
        needed: bool = False,
    ) -> None:
        self.program, self.processor, self.request, self.folder = program, processor, request, folder
        self.stop, self.progress, self.needed = stop, progress, needed
        self.options = processor.checked({} if needed else request.options)
        self.started = time.monotonic()
        self.cpu_s, self.children = 0.0, 0

    def run(self) -> RunOutcome:
        self.progress.part(0, 1, "reading")
        with Collector(self.folder, self.progress.part) as collector:
            ending = self._read(collector)
        if ending.stopped:
            return self._stopped(ending.stopped)
        failure = collector.failure(ending.code)
        if failure is not None:
            return Failed(failure, ending.reason, self._usage())
        files = [path for name in ("text.txt", "pages.ndjson") if (path := self.folder / name).exists()]
        if not self.needed:
            files += self._thumbnail()
            if self.stop.reason is not None:
                return self._stopped(self.stop.reason)
        return Completed(
            processor=self.processor.name,
            version=self.processor.version,
            result=self._result(collector),
            partial=collector.partial,
            warnings=tuple(collector.warnings),
            files=tuple(files),
            usage=self._usage(),
        )

    def _read(self, collector: Collector) -> Ending:
        """Children from page to page: on after a hand-over, and past a page that ended its child."""
        lost, start = 0, 1
        while True:
            collector.begin_child(start)
            ending = self._run_child(start, collector)
            if ending.stopped or isinstance(ending.final, Done):
                return ending
            if isinstance(ending.final, Handover) and ending.final.next > start:
                start = ending.final.next
            elif isinstance(ending.final, Fatal | Handover) or not collector.resumable:
                collector.end_early(ending.code or "parser_crash")
                return ending
            else:
                lost, start = lost + 1, collector.lose_page(ending.code or "parser_crash")
            if collector.complete_before(start) or lost > limits.LOST_PAGES:
                return ending
            if spent := self._spent():
                collector.warn(start, spent)
                return ending

    def _spent(self) -> ErrorCode | None:
        """The limit of the whole attempt that is used up."""
        if self.cpu_s >= self.processor.limits.cpu_s:
            return "cpu_limit"
        return "timeout" if time.monotonic() >= self.started + self.processor.limits.wall_s else None

    def _run_child(self, start: int, collector: Collector) -> Ending:
        asked = self.processor.limits
        left = min(asked.cpu_s - self.cpu_s, asked.child_cpu_s or asked.cpu_s)
        entry = self.processor.entries[self.request.content_type]
        ending = self._child(entry, asked, left, self.started + asked.wall_s, start, collector.take)
        self.cpu_s += ending.cpu_s
        self.children += 1
        return ending

    def _thumbnail(self) -> list[Path]:
        """The thumbnail's file, if there is one; it can never cost the text."""
        entry = self.processor.thumbnails.get(self.request.content_type)
        if entry is None:
            return []
        self.progress.at(THUMBNAIL_AT, "making the thumbnail")
        images: list[bytes] = []

        def take(line: Line) -> None:
            if not isinstance(line, Image) or images:
                raise BadLine(f"{line.ev} is no thumbnail")
            images.append(line.content())

        asked = limits.THUMBNAIL
        ending = self._child(entry, asked, asked.cpu_s, time.monotonic() + asked.wall_s, 1, take)
        if ending.code is not None or not images:
            return []
        file = self.folder / "thumbnail.webp"
        file.write_bytes(images[0])
        return [file]

    def _child(
        self,
        entry: str,
        asked: Limits,
        cpu_s: float,
        deadline: float,
        start: int,
        take: Callable[[Line], None],
    ) -> Ending:
        scratch = self.folder / "scratch"
        scratch.mkdir(mode=0o700, exist_ok=True)
        job = scratch / "job.json"
        job.write_text(json.dumps(self._job(entry, asked, start, scratch)), "utf-8")
        cpu = math.ceil(cpu_s)
        built_in = self.processor.site is None
        file_bytes = 0 if built_in else limits.SCRATCH_MIB * MIB
        numbers = (asked.memory_mib * MIB, cpu, file_bytes, int(built_in), os.getpid())
        ending = watch(
            [sys.executable, "-I", "-B", str(self.program), *map(str, numbers), str(job)],
            cwd=scratch,
            env={name: os.environ[name] for name in self.processor.env if name in os.environ},
            bounds=Bounds(cpu, asked.stall_s, deadline, asked.out_mib * MIB),
            stop=self.stop,
            take=take,
        )
        if ending.code is not None and not ending.stopped:
            log.warning(
                "reading child ended: processor=%s entry=%s start=%d code=%s reason=%r cpu_s=%.2f stderr=%r",
                self.processor.name, entry, start, ending.code, ending.reason, ending.cpu_s, ending.stderr,
            )  # fmt: skip
        return ending

    def _job(self, entry: str, asked: Limits, start: int, scratch: Path) -> dict[str, object]:
        return {
            "entry": entry,
            "site": self.processor.site,
            "path": str(self.request.path.resolve()),
            "content_type": self.request.content_type,
            "options": self.options,
            "start": start,
            "run_key": self.request.run_key,
            "workdir": str(scratch),
            "needs": [str(_need(self.request, name)) for name in self.processor.needs],
            "handover_cpu_s": asked.handover_cpu_s,
        }

    def _result(self, collector: Collector) -> Extraction | dict[str, Any]:
        if collector.value is not None:
            return collector.value
        if self.needed:
            return collector.extraction(lambda _: UNKNOWN)
        self.progress.at(LANGUAGE_AT, "detecting the language")
        return collector.extraction(detect)

    def _stopped(self, reason: StopReason) -> RunOutcome:
        return Failed("cancelled", "cancelled", self._usage()) if reason == "cancelled" else Stopped(reason)

    def _usage(self) -> Usage:
        return Usage(self.cpu_s, time.monotonic() - self.started, self.children)
