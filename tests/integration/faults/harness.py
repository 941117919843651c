"""The parts of a fault test: processes that can be killed and frozen, and the stage they stand on."""

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.container import Container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.domain.document import Document
from core.clock import utc_now
from core.ids import new_id
from core.local.folder import DataFolder
from core.local.launch import Program, kill_group, launch
from core.local.stack import LocalServers
from tests.integration.running import ROOT, free_port

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
        program = Program(name=name, command=[sys.executable, "-m", *command], order=0, env=env, cwd=ROOT)
        self._process = launch(folder, program, self._log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def children(self) -> list[psutil.Process]:
        """The children of a Celery worker; the readers that they start are not meant."""
        return [child for child in psutil.Process(self.pid).children() if child.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        """As a power cut would: the process and everything it started."""
        self._process.kill()
        kill_group(self.pid)
        self._process.wait()

    def stop(self, within_s: float) -> int:
        """SIGTERM; the exit code."""
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


class Stage:
    """Databases, an owner and processes of one test; `container` is the application in the test's own process."""

    def __init__(self, servers: LocalServers, folder: DataFolder, env: dict[str, str], container: Container) -> None:
        self.servers, self.folder, self.env, self.container = servers, folder, env, container
        self.patience: float = PATIENCE
        self.owner_id = new_id("usr")
        self.original = f"_dossier/originals/{new_id('doc')}/original"
        self.accepted: dict[str, int] = {}  # requests by document
        self.told: dict[str, Any] = {}
        self.processes: list[Process] = []
        self._switches: list[str] = []

    # Processes

    def switch(self, *names: str) -> None:
        """Fail-points and mutants of the processes started from here on."""
        self._switches += names

    def api(self, *switches: str, port: int | None = None, **env: str) -> "Api":
        port = port or free_port()
        command = ["uvicorn", f"{MODULE}:api", "--factory", "--host=127.0.0.1", f"--port={port}"]
        return self._start(Api(self.folder, self._name("api"), [*command, "--no-access-log"], self._env(switches, env)))

    def worker(self, *switches: str, children: int = 2, options: Sequence[str] = (), **env: str) -> Process:
        return self._celery("worker", children, "documents", options, switches, env)

    def control(self, *switches: str, **env: str) -> Process:
        return self._celery("control", 1, "periodic", (), switches, env)

    def beat(self) -> Process:
        command = ["celery", f"--app={MODULE}", "--quiet", "beat", "--pidfile="]
        return self._start(Process(self.folder, self._name("beat"), command, self._env((), {})))

    def crew(self, *switches: str, children: int = 2) -> Process:
        """Everything but the API; the worker."""
        self.beat()
        self.control(*switches)
        return self.worker(*switches, children=children)

    def end(self) -> None:
        for process in self.processes:
            if process.is_running():
                process.kill()

    # Documents

    async def documents(self, count: int) -> list[str]:
        """Uploaded documents that share one original."""
        ids = []
        for _ in range(count):
            document_id, now = new_id("doc"), utc_now()
            await self.container.documents.documents().add(
                Document(
                    id=document_id, owner_id=self.owner_id, filename="a.pdf", content_type="application/pdf",
                    size=8, sha256=None, key=self.original, created_at=now, updated_at=now,
                )
            )  # fmt: skip
            ids.append(document_id)
        return ids

    async def request(
        self, *document_ids: str, seconds: float = 0, processor: str = "simulate", force: bool = False
    ) -> None:
        """As the API does it, in the test's own process."""
        options = {"duration_seconds": seconds} if processor == "simulate" else {}
        for document_id in document_ids:
            queued = await self.container.documents.processing().request(
                self.owner_id, document_id, processor=processor, options=options, force=force, request_id="req_of_a_test"
            )
            assert queued.status == "PROCESSING"
            self.accept(document_id)

    def accept(self, *document_ids: str) -> None:
        """These were promised to be processed."""
        for document_id in document_ids:
            self.accepted[document_id] = self.accepted.get(document_id, 0) + 1

    def send(self, document_id: str, attempt: int) -> None:
        """A wake-up for a worker, whether or not anything waits."""
        self.container.celery().send_task("documents.process", args=(document_id, attempt), queue="documents")

    # What is true

    @property
    def rows(self) -> Any:
        return DocumentRecord.get_pymongo_collection()

    @property
    def inbox(self) -> Any:
        """What the consumer of all events has taken, by event."""
        return self.rows.database["inbox"]

    async def row(self, document_id: str) -> dict[str, Any]:
        row: dict[str, Any] = await self.rows.find_one({"_id": document_id})
        return row

    async def count(self, **query: Any) -> int:
        """Of the documents of this stage."""
        return int(await self.rows.count_documents({name.replace("__", "."): value for name, value in query.items()}))

    async def ended(self, expected_s: float) -> float:
        """Waits until every accepted document is over; seconds."""

        async def all_ended() -> bool:
            return await self.count(_id={"$in": list(self.accepted)}, status="PROCESSING") == 0

        return await self.until(all_ended, expected_s, "every accepted document is COMPLETED or FAILED")

    async def until(self, condition: Callable[[], Any], expected_s: float, what: str) -> float:
        return await until(condition, expected_s, what, self.patience)

    def logged(self, name: str) -> list[dict[str, Any]]:
        return [event for process in self.processes for event in process.events(name)]

    def report(self, fault: str, **numbers: Any) -> None:
        """A line of the table at the end of the run."""
        self.told = {"fault": fault, "accepted": sum(self.accepted.values()), **self.told, **numbers}

    def _celery(
        self, name: str, children: int, queues: str, options: Sequence[str], switches: Sequence[str],
        env: Mapping[str, str],
    ) -> Process:  # fmt: skip
        command = ["celery", f"--app={MODULE}", "--quiet", "worker", f"--queues={queues}", f"--concurrency={children}"]
        unique = self._name(name)
        command += ["--without-gossip", "--without-mingle", f"--hostname={unique}@%h", *options]
        return self._start(Process(self.folder, unique, command, self._env(switches, env)))

    def _start[P: Process](self, process: P) -> P:
        self.processes.append(process)
        return process

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.processes)}"

    def _env(self, switches: Sequence[str], more: Mapping[str, str]) -> dict[str, str]:
        return {**self.env, "SWITCHES": ",".join([*self._switches, *switches]), **more}
