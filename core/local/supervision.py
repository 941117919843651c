"""Running programs under supervisord, a child of ours: it starts, restarts and stops them."""

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, BinaryIO
from xmlrpc.client import Fault, ServerProxy

from core.local.folder import DataFolder, LocalStackError, Log
from core.local.launch import TETHER, Program, kill_group, launch, write_spec
from core.local.relay import LineRelay
from core.local.servers import last_words

_START_SECONDS = 30.0
_ORPHAN_SECONDS = 30.0
# A path of a Unix socket has about 100 bytes, and supervisord appends its process id for a moment.
_SOCKET_PATH_BYTES = 90
# Paths come from the environment or are relative: in this file `;`, `#` and `%` would mean something else.
_HEAD = """\
[supervisord]
nodaemon=true
silent=true
nocleanup=true
minfds=256
minprocs=32
logfile=logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=1
pidfile=run/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[unix_http_server]
chmod=0700
file=%(ENV_DOSSIER_SOCKET)s
"""
# After startsecs a program is restarted at once, before that after 1, 2, … 8 s; then `watch` begins anew.
_PROGRAM = """\
[program:{name}]
command=%(ENV_DOSSIER_TETHER)s run/{name}.json
autostart=false
autorestart=true
startsecs=10
startretries=8
stopsignal=TERM
stopwaitsecs={stop_seconds}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile=NONE
"""
_GROUP = """\
[group:{group}]
programs={names}
priority={order}
"""


class SupervisorGone(Exception):
    """supervisord has ended though nobody asked it to."""


@dataclass(frozen=True)
class ProgramState:
    """What supervisord says of a program: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED or FATAL."""

    state: str
    pid: int

    @property
    def is_up(self) -> bool:
        return self.state in ("STARTING", "RUNNING", "STOPPING")

    @property
    def is_wanted(self) -> bool:
        """It runs, or will again without being told."""
        return self.is_up or self.state in ("BACKOFF", "EXITED")


class Supervision:
    """supervisord with a set of programs, none of them started; made by `supervised`."""

    def __init__(self, folder: DataFolder, programs: Sequence[Program], socket: Path) -> None:
        self._folder = folder
        self._socket = socket
        self._programs = {program.name: program for program in programs}
        self._groups = {program.name: f"order{program.order}" for program in programs}
        self._pids: dict[str, int] = {}
        configuration = folder.run / "supervisord.conf"
        configuration.write_text(_configuration(folder, programs), encoding="utf-8")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        self._log_file = folder.log_file("supervisord")
        env = {"DOSSIER_SOCKET": str(socket), "DOSSIER_TETHER": shlex.join(TETHER)}
        self._process = launch(folder, Program("supervisord", command, 0, env, folder.root), self._log_file)

    def wait_until_up(self) -> None:
        """supervisord takes a moment to read its configuration."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(OSError, HTTPException):
                self.states()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                reason = last_words(self._log_file)
                raise LocalStackError(f"supervisord does not start, see {self._log_file}: {reason}")
            time.sleep(0.02)

    def start(self, names: Iterable[str]) -> None:
        """Start programs, without waiting until they do anything useful."""
        for name in names:
            self._call("startProcess", f"{self._groups[name]}:{name}", False)

    def stop(self, names: Iterable[str], *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop programs side by side, each within its time; False from `hurry` is patience."""
        left = set(names)
        while left:
            states = self.states()
            left = {name for name in left if states[name].is_wanted}
            for name in left:
                if states[name].state != "STOPPING":
                    # One that ended on its own a moment ago refuses, and is asked again after its restart.
                    with suppress(Fault):
                        self._call("stopProcess", f"{self._groups[name]}:{name}", False)
            if hurry():
                return
            time.sleep(0.05)

    def states(self) -> dict[str, ProgramState]:
        states = {}
        for info in self._call("getAllProcessInfo"):
            name, pid = info["name"], info["pid"]
            states[name] = ProgramState(info["statename"], pid)
            known = self._pids.get(name)
            if known and known != pid:
                # What a dead program left of its group would hold its ports and go on with its work.
                kill_group(known)
            self._pids[name] = pid
        return states

    def watch(self, log: Log) -> None:
        """Tell of programs that had to be restarted, and start again those that supervisord gave up."""
        before = dict(self._pids)
        for name, now in self.states().items():
            if before.get(name) and before[name] != now.pid:
                log("part_ended", part=name, pid=before[name])
            if now.state == "FATAL":
                with suppress(Fault):
                    self.start([name])

    def stop_all(self, *, hurry: Callable[[], bool]) -> None:
        """Stop the programs, the highest order first; once `hurry` says so, kill them all."""
        for order in sorted({program.order for program in self._programs.values()}, reverse=True):
            self.stop([p.name for p in self._programs.values() if p.order == order], hurry=hurry)
        with suppress(Fault):
            self._call("shutdown")
        if hurry():
            self._kill_programs()
        with suppress(TimeoutExpired):
            self._process.wait(_ORPHAN_SECONDS)

    def end(self) -> None:
        """Leave nothing behind, whatever state the programs are in."""
        if self._process.poll() is None:
            # Its programs are tied to it, and follow.
            self._process.kill()
            self._process.wait()
        self._folder.wait_until_left(_ORPHAN_SECONDS)
        self._kill_programs()
        self._folder.wait_until_left(5)

    def _kill_programs(self) -> None:
        for pid in filter(None, self._pids.values()):
            kill_group(pid)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        if self._process.poll() is not None:
            raise SupervisorGone
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        try:
            with ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, HTTPException) as error:
            with suppress(TimeoutExpired):
                self._process.wait(0.2)
            if self._process.poll() is not None:
                raise SupervisorGone from error
            raise


@contextmanager
def supervised(
    folder: DataFolder, programs: Sequence[Program], *, output: BinaryIO | None = None
) -> Iterator[Supervision]:
    """supervisord for these programs; at the end no process of it is left, stopped in order or not."""
    relay = LineRelay(output or sys.stdout.buffer)
    socket_folder = _socket_folder(folder)
    supervision = None
    try:
        for program in programs:
            if not program.log_file:
                relay.add(_fifo(folder, program))
        relay.start()
        supervision = Supervision(folder, programs, socket_folder / "supervisor.sock")
        supervision.wait_until_up()
        yield supervision
    finally:
        if supervision:
            supervision.end()
        relay.close()
        if socket_folder != folder.run:
            shutil.rmtree(socket_folder, ignore_errors=True)


def _configuration(folder: DataFolder, programs: Sequence[Program]) -> str:
    groups: dict[int, list[str]] = {}
    text = _HEAD
    for program in programs:
        groups.setdefault(program.order, []).append(program.name)
        write_spec(folder, program, program.log_file or _fifo(folder, program))
        text += _PROGRAM.format(name=program.name, stop_seconds=program.stop_seconds)
    for order, names in groups.items():
        text += _GROUP.format(group=f"order{order}", names=",".join(names), order=order)
    return text


def _fifo(folder: DataFolder, program: Program) -> Path:
    return folder.run / f"{program.name}.out"


def _socket_folder(folder: DataFolder) -> Path:
    if len(os.fsencode(folder.run / "supervisor.sock")) <= _SOCKET_PATH_BYTES:
        return folder.run
    return Path(tempfile.mkdtemp(prefix="dossier-"))
