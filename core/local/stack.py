"""MongoDB, Redis and S3 on this machine: `start_servers` for tests, `run_stack` for `--env local`.

`servers` knows the three, `programs` finds them, `ports` chooses where they listen, `folder` guards the data
folder, `launch` and `tether` start a process that does not outlive its parent, `supervision` runs programs
under supervisord and `relay` brings their output to ours.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import BinaryIO

from core.local.folder import DataFolder, LocalStackError, Log, held, open_folder, silent
from core.local.interruptions import Interruptions
from core.local.launch import Program, end, kill_group, launch
from core.local.ports import Ports
from core.local.servers import (
    MONGO_PORT,
    REDIS_PORT,
    S3_PORT,
    S3_REGION,
    MongoServer,
    RedisServer,
    S3Server,
    Server,
    last_words,
)
from core.local.supervision import Supervision, SupervisorGone, supervised

_SERVERS_READY_SECONDS = 60.0
_PROGRAMS_READY_SECONDS = 120.0
_STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Embedded:
    """Which servers are wanted; leave out those that settings place elsewhere."""

    mongo: bool = True
    redis: bool = True
    s3: bool = True
    s3_access_key: str = "dossier"
    s3_secret_key: str = field(default_factory=secrets.token_hex, repr=False)
    s3_bucket: str = "dossier"

    def servers(self, folder: DataFolder, choose_port: Callable[[int, str], int]) -> list[Server]:
        servers: list[Server] = []
        if self.mongo:
            servers.append(MongoServer(folder, choose_port(MONGO_PORT, "MongoDB")))
        if self.redis:
            servers.append(RedisServer(folder, choose_port(REDIS_PORT, "Redis")))
        if self.s3:
            account = (self.s3_access_key, self.s3_secret_key, self.s3_bucket)
            servers.append(S3Server(folder, choose_port(S3_PORT, "S3"), *account))
        return servers


class Addresses:
    """Where embedded servers are; what belongs to one that is not wanted is empty."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.mongo_url = self.redis_url = self.s3_endpoint_url = ""
        self.s3_access_key = self.s3_secret_key = self.s3_bucket = ""
        self.s3_region = S3_REGION
        for server in servers:
            if isinstance(server, MongoServer):
                self.mongo_url = server.url
            elif isinstance(server, RedisServer):
                self.redis_url = server.url
            elif isinstance(server, S3Server):
                self.s3_endpoint_url, self.s3_bucket = server.url, server.bucket
                self.s3_access_key, self.s3_secret_key = server.access_key, server.secret_key


class LocalServers(Addresses):
    """Embedded servers without supervision; their names are `mongod`, `redis` and `s3`."""

    def __init__(self, folder: DataFolder, servers: Sequence[Server]) -> None:
        super().__init__(servers)
        self._folder = folder
        self._servers = {server.name: server for server in servers}
        self._programs: dict[str, Program] = {}
        self._processes: dict[str, Popen[bytes]] = {}

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def start(self, *names: str) -> None:
        """Start servers side by side and wait until they are ready; without names, all."""
        chosen = [self._servers[name] for name in names] or list(self._servers.values())
        for program in _prepared(chosen):
            self._programs[program.name] = program
            log_file = self._folder.log_file(program.name)
            self._processes[program.name] = launch(self._folder, program, log_file)
        _wait_until_ready(self._folder, chosen, lambda name: self._processes[name].poll() is None)

    def stop(self, name: str) -> None:
        """Stop one server; `start(name)` brings it back with its data, on the same port."""
        end(self._processes.pop(name), seconds=self._programs[name].stop_seconds)

    def kill(self, name: str) -> None:
        """End one server as a power cut would."""
        process = self._processes.pop(name)
        kill_group(process.pid)
        process.wait()

    def stop_all(self) -> None:
        """Stop what still runs."""
        for process in self._processes.values():
            process.terminate()
        for name in reversed(list(self._processes)):
            self.stop(name)


@contextmanager
def start_servers(data_dir: Path, embedded: Embedded | None = None) -> Iterator[LocalServers]:
    """Servers on free ports while the context lasts; the thread that enters it must last as long."""
    folder = open_folder(data_dir)
    with held(folder), closing(Ports()) as ports:
        servers = (embedded or Embedded()).servers(folder, lambda _port, _part: ports.any())
        running = LocalServers(folder, servers)
        try:
            running.start()
            yield running
        finally:
            running.stop_all()


def run_stack(
    data_dir: Path,
    *,
    embedded: Embedded,
    programs: Callable[[Addresses], Sequence[Program]],
    is_ready: Callable[[], bool],
    on_ready: Callable[[], object],
    log: Log = silent,
    output: BinaryIO | None = None,
) -> int:
    """Run servers, then programs, until a signal says stop; the exit code. For the main thread."""
    folder = open_folder(data_dir)
    with held(folder, log), closing(Ports()) as ports, Interruptions() as interruptions:
        servers = embedded.servers(folder, lambda port, part: ports.near(port, part=part, log=log))
        prepared = _prepared(servers)
        ours = list(programs(Addresses(servers)))
        with supervised(folder, [*prepared, *ours], output=output) as supervision:
            run = _Run(supervision, interruptions, log)
            try:
                supervision.start(program.name for program in prepared)
                _wait_until_ready(folder, servers, run.has_not_failed)
                supervision.start(program.name for program in sorted(ours, key=lambda each: each.order))
                run.wait_for(is_ready)
                on_ready()
                run.watch()
            except _Stopped:
                pass
            except SupervisorGone:
                log("supervisor_gone")
                return 1
            except _NotReady:
                log("not_ready", seconds=_PROGRAMS_READY_SECONDS)
                return 1
            finally:
                run.stop()
    return 0


class _Stopped(Exception):
    """A signal asked the stack to stop."""


class _NotReady(Exception):
    """The programs run, but do not come to serve."""


class _Run:
    def __init__(self, supervision: Supervision, interruptions: Interruptions, log: Log) -> None:
        self._supervision = supervision
        self._interruptions = interruptions
        self._log = log

    def has_not_failed(self, name: str) -> bool:
        self._look_for_signals()
        return self._supervision.states()[name].is_up

    def wait_for(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PROGRAMS_READY_SECONDS
        while not is_ready():
            self._look_for_signals()
            self._supervision.watch(self._log)
            if time.monotonic() > deadline:
                raise _NotReady
            time.sleep(0.1)

    def watch(self) -> None:
        while True:
            self._supervision.watch(self._log)
            for _ in range(10):
                self._look_for_signals()
                time.sleep(0.1)

    def stop(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        with suppress(SupervisorGone):
            self._supervision.stop_all(hurry=lambda: self._interruptions.count > 1 or time.monotonic() > deadline)

    def _look_for_signals(self) -> None:
        if self._interruptions.count:
            raise _Stopped


def _prepared(servers: Sequence[Server]) -> list[Program]:
    try:
        return [server.prepare() for server in servers]
    except OSError as error:
        raise LocalStackError(f"cannot prepare the data folder: {error}") from error


def _wait_until_ready(folder: DataFolder, servers: Sequence[Server], is_alive: Callable[[str], bool]) -> None:
    """Wait for all at a time; a server that ended or stays silent is an error that quotes its log."""
    deadline = time.monotonic() + _SERVERS_READY_SECONDS
    given_up = threading.Event()

    def answers(server: Server) -> None:
        while not given_up.is_set() and not server.answers():
            time.sleep(0.05)

    with ThreadPoolExecutor(max(1, len(servers))) as threads:
        waiting = {threads.submit(answers, server): server.name for server in servers}
        try:
            while waiting:
                for done in wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED).done:
                    done.result()
                    del waiting[done]
                for name in waiting.values():
                    ended = not is_alive(name)
                    if ended or time.monotonic() > deadline:
                        log_file = folder.log_file(name)
                        what = "ended at start" if ended else "does not answer"
                        raise LocalStackError(f"{name} {what}, see {log_file}: {last_words(log_file)}")
        finally:
            given_up.set()
