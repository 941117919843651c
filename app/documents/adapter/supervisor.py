"""Starts a reading child, watches it, ends it and judges it.

The thread that calls `watch` stays until the child is reaped: the child's death signal follows that thread.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.documents.adapter.child_lines import FINAL, BadLine, Done, Fatal, Handover, Line, Ready, parse
from app.documents.domain.limits import EXIT_GRACE_S, LINE_BYTES, PIECE_BYTES, STDERR_KEPT_BYTES, TICK_S
from app.documents.domain.processors import ErrorCode, StopFlag, StopReason

OUT_OF_MEMORY_EXIT = 71
PR_SET_DUMPABLE = 4
EXIT_POLL_S = 0.005
REASON_CHARACTERS = 300
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS})


class OverLimit(Exception):
    """What the child wrote is more than allowed; raised by whoever takes its lines."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds of CPU, of silence, until the wall (a monotonic time), and bytes of stdout."""

    cpu_s: float
    stall_s: float
    deadline: float
    out_bytes: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended; `code` is None after `done` and `handover`; `reason` and `stderr` are for logs."""

    code: ErrorCode | None
    reason: str
    cpu_s: float
    final: Fatal | Handover | Done | None = None
    stopped: StopReason | None = None
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why the parent ended the child."""

    code: ErrorCode
    reason: str
    stopped: StopReason | None = None


def can_confine() -> bool:
    """Whether all limits of a child hold here: `prod` refuses to start without, `local` warns."""
    return sys.platform == "linux"


def harden_worker() -> None:
    """Close /proc/<worker>/environ to the children, which run as the same user; raises OSError."""
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def watch(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    bounds: Bounds,
    stop: StopFlag,
    take: Callable[[Line], None],
) -> Ending:
    """Run one child to its end; `take` gets all lines but the final one, may raise BadLine or OverLimit."""
    with subprocess.Popen(  # noqa: S603 - our interpreter, our file, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        bufsize=0,
    ) as process:
        child = _Child(process, bounds, take)
        try:
            cause = child.follow(stop)
        finally:
            child.end()
        return child.judge(cause)


class _Child:
    def __init__(self, process: subprocess.Popen[bytes], bounds: Bounds, take: Callable[[Line], None]) -> None:
        self.process, self.bounds, self.take = process, bounds, take
        self.ready = self.said_all = self.killed = False
        self.final: Fatal | Handover | Done | None = None
        self.cpu_s = 0.0
        self.buffer, self.received = bytearray(), 0
        self.stderr = b""
        self.last_line = time.monotonic()

    def follow(self, stop: StopFlag) -> _Cause | None:
        """Read until the child is gone or has said all (None), or has to be ended (why)."""
        patience: float | None = None
        with selectors.DefaultSelector() as selector:
            for stream, read in (
                (self.process.stdout, self._read_stdout),
                (self.process.stderr, self._read_stderr),
            ):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, read)
            while True:
                events = selector.select(EXIT_POLL_S if self.said_all else TICK_S)
                cause = self._read(selector, events) or self._overdue(stop)
                if cause is not None or (self._exited() and (self.said_all or not events)):
                    return cause
                if self.said_all:
                    # killing at once would make clean exits look like crashes, waiting for ever would hang
                    patience = patience or time.monotonic() + EXIT_GRACE_S
                    if time.monotonic() > patience:
                        return None

    def _read(self, selector: selectors.BaseSelector, events: list[tuple[selectors.SelectorKey, int]]) -> _Cause | None:
        try:
            for key, _ in events:
                if not key.data(key.fd):
                    selector.unregister(key.fileobj)
        except OverLimit as over:
            return _Cause("memory_limit", str(over))
        except BadLine as bad:
            return _Cause("parser_crash", str(bad))
        return None

    def _overdue(self, stop: StopFlag) -> _Cause | None:
        now = time.monotonic()
        if stop.reason is not None:
            return _Cause("cancelled", stop.reason, stop.reason)
        if self.said_all:
            return None
        if now > self.bounds.deadline:
            return _Cause("timeout", "wall")
        return _Cause("timeout", "stall") if now - self.last_line > self.bounds.stall_s else None

    def end(self) -> None:
        """Leave no process of the group behind."""
        if not self._exited():
            self.killed = True
            self._kill_group()
            self._reap(0)
        self._kill_group()

    def judge(self, cause: _Cause | None) -> Ending:
        code, reason = self._verdict(cause)
        return Ending(
            code=code,
            reason=reason,
            cpu_s=self.cpu_s,
            final=self.final,
            stopped=cause.stopped if cause else None,
            stderr=self.stderr.decode("utf-8", "replace"),
        )

    def _verdict(self, cause: _Cause | None) -> tuple[ErrorCode | None, str]:
        exit_code = self.process.returncode
        foreign_kill = exit_code == -signal.SIGKILL and not self.killed
        if cause is not None and cause.stopped:
            return cause.code, cause.reason
        if self.final is not None:
            return (
                (self.final.code, self.final.detail[:REASON_CHARACTERS])
                if isinstance(self.final, Fatal)
                else (None, self.final.ev)
            )
        if cause is not None:
            return cause.code, cause.reason
        if exit_code == -signal.SIGXCPU or (foreign_kill and self.cpu_s >= self.bounds.cpu_s):
            return "cpu_limit", f"{self.cpu_s:.1f} CPU s"
        # PDFium calls abort() when an allocation fails; a foreign SIGKILL is the kernel out of memory
        if foreign_kill or exit_code in (OUT_OF_MEMORY_EXIT, -signal.SIGABRT):
            return "memory_limit", f"exit {exit_code}"
        if self.ready or -exit_code in CRASHES:
            return "parser_crash", f"exit {exit_code}"
        return "internal", f"exit {exit_code} before it was ready"

    def _read_stdout(self, fd: int) -> bool:
        chunk = os.read(fd, PIECE_BYTES)
        self.said_all = self.said_all or not chunk
        self.received += len(chunk)
        if self.received > self.bounds.out_bytes:
            raise OverLimit(f"{self.received} bytes on stdout")
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            self._take_line(bytes(self.buffer) + part)
            self.buffer.clear()
        self.buffer += rest
        if len(self.buffer) > LINE_BYTES:
            raise OverLimit("endless line")
        return bool(chunk)

    def _take_line(self, raw: bytes) -> None:
        if self.said_all:
            return
        line = parse(raw)
        if isinstance(line, Ready) is self.ready:
            raise BadLine("ready must be the first line and come once")
        self.last_line = time.monotonic()
        self.ready = True
        if isinstance(line, FINAL):
            self.final, self.said_all = line, True
        elif not isinstance(line, Ready):
            self.take(line)

    def _read_stderr(self, fd: int) -> bool:
        # read to the end and dropped: a full pipe blocks a chatty child for ever, which looks like a hang
        chunk = os.read(fd, PIECE_BYTES)
        self.stderr = (self.stderr + chunk)[-STDERR_KEPT_BYTES:]
        return bool(chunk)

    def _exited(self) -> bool:
        if self.process.returncode is None:
            self._reap(os.WNOHANG)
        return self.process.returncode is not None

    def _reap(self, flags: int) -> None:
        # also a killed child's CPU time; not its peak memory: exec carries the parent's over into it
        pid, status, usage = os.wait4(self.process.pid, flags)
        if pid:
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_s = usage.ru_utime + usage.ru_stime

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
