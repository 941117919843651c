"""The stage of a fault test: databases and an owner of its own, the processes, and what is true at the end."""

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from app.container import Container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.domain.document import Document, uploaded_event
from core.clock import utc_now
from core.ids import new_id, random_token
from core.local.folder import DataFolder
from core.local.stack import LocalServers
from tests.clients import Person
from tests.integration.faults.process import MODULE, PATIENCE, Api, Process, until
from tests.integration.running import free_port

P = TypeVar("P", bound=Process)

MOCK = {"processor": "simulate", "options": {"duration_seconds": 0}}


class Stage:
    """Databases, an owner and processes of one test; `container` is the application in the test's own process."""

    def __init__(self, servers: LocalServers, folder: DataFolder, env: dict[str, str], container: Container) -> None:
        self.servers, self.folder, self.env, self.container = servers, folder, env, container
        self.patience: float = PATIENCE
        self.owner_id = new_id("usr")
        self.original = f"_dossier/originals/{new_id('doc')}/original"
        self.accepted: dict[str, int] = {}  # requests by document
        self.told: dict[str, Any] = {"recovery_s": "-"}
        self.processes: list[Process] = []
        self._switches = ["short-times", "tell-of-wake-ups"]
        self._began = time.monotonic()

    # Processes

    def switch(self, *names: str) -> None:
        """Fail-points and mutants of the processes started from here on."""
        self._switches += names

    def api(self, *switches: str, port: int | None = None, **env: str) -> "Api":
        return self.start(Api(self.folder, self._name("api"), port or free_port(), self._env(switches, env)))

    def worker(self, *switches: str, children: int = 2, options: Sequence[str] = (), **env: str) -> Process:
        return self._celery("worker", children, "documents,pipelines", options, switches, env)

    def control(self, *switches: str, **env: str) -> Process:
        """With beat in it, which no test here hurts: half as much to start as two programs."""
        return self._celery("control", 1, "periodic", ("--beat",), switches, env)

    def crew(self, children: int = 2, **env: str) -> Process:
        """Everything but the API; the worker."""
        self.control(**env)
        return self.worker(children=children, **env)

    def end(self) -> None:
        for process in self.processes:
            if process.is_running():
                process.kill()

    # Documents

    def document(self) -> Document:
        """An uploaded document, not yet stored; all share one original."""
        document_id, now = new_id("doc"), utc_now()
        document = Document(
            id=document_id, owner_id=self.owner_id, filename="a.pdf", content_type="application/pdf",
            size=8, sha256=None, key=self.original, created_at=now, updated_at=now,
        )  # fmt: skip
        return document.model_copy(update={"seq": 1, "outbox": (uploaded_event(document),)})

    async def documents(self, count: int) -> list[str]:
        """So many uploaded documents."""
        documents = [self.document() for _ in range(count)]
        for document in documents:
            await self.container.documents.documents().add(document)
        return [document.id for document in documents]

    async def request(
        self, *document_ids: str, seconds: float = 0, processor: str = "simulate", force: bool = False
    ) -> None:
        """As the API does it, in the test's own process."""
        options = {"duration_seconds": seconds} if processor == "simulate" else {}
        for document_id in document_ids:
            queued = await self.container.documents.processing().request(
                self.owner_id, document_id, processor=processor, options=options, force=force, request_id="req_12345678"
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
        """Of the documents of this stage; `run__state` is `run.state`."""
        found: int = await self.rows.count_documents(_dotted(query))
        return found

    async def one(self, **query: Any) -> str:
        """The id of a document that is known to be there."""
        row: dict[str, Any] = await self.rows.find_one(_dotted(query), {"_id": 1})
        return str(row["_id"])

    async def completed(self, at_least: int) -> bool:
        return await self.count(status="COMPLETED") >= at_least

    async def messages(self) -> list[str]:
        """Documents of the wake-ups that nobody has finished with: waiting, or in a worker's hands."""
        redis: Any = self.container.redis()
        waiting = [json.loads(message) for message in await redis.lrange("documents", 0, -1)]
        held = [json.loads(message) for message in await redis.hvals("unacked")]
        waiting += [message for message, _, queue in held if queue == "documents"]
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in waiting]

    async def all_read(self) -> bool:
        return await self.messages() == []

    async def nobody_listens(self) -> bool:
        """To a worker that died a moment ago Redis would hand one more message, which is lost with it."""
        redis: Any = self.container.redis()
        return not any(client["cmd"] == "brpop" for client in await redis.client_list())

    async def watched(self) -> None:
        """Waits until beat and control are at work: then somebody has told of the uploads."""

        async def all_told() -> bool:
            return await self.count(outbox__at={"$exists": True}) == 0

        await self.until(all_told, 6, "beat and control are at work")

    async def ended(self, expected_s: float) -> None:
        """Waits until every accepted document is over."""

        async def all_ended() -> bool:
            return await self.count(_id={"$in": list(self.accepted)}, status="PROCESSING") == 0

        await self.until(all_ended, expected_s, "every accepted document is COMPLETED or FAILED")

    async def until(self, condition: Callable[[], Any], expected_s: float, what: str) -> float:
        def checked() -> Any:
            for process in self.processes:
                process.check()
            return condition()

        return await until(checked, expected_s, what, self.patience)

    def logged(self, name: str) -> list[dict[str, Any]]:
        return [event for process in self.processes for event in process.events(name)]

    def report(self, **numbers: Any) -> None:
        """For a line of the table at the end of the run: fault, lost, twice, recovery_s, remarks."""
        total = round(time.monotonic() - self._began, 1)
        self.told |= {"accepted": sum(self.accepted.values()), "total_s": total, **numbers}

    def _celery(
        self, name: str, children: int, queues: str, options: Sequence[str], switches: Sequence[str],
        env: Mapping[str, str],
    ) -> Process:  # fmt: skip
        command = ["celery", f"--app={MODULE}", "--quiet", "worker", f"--queues={queues}", f"--concurrency={children}"]
        unique = self._name(name)
        command += ["--without-gossip", "--without-mingle", f"--hostname={unique}@%h", *options]
        return self.start(Process(self.folder, unique, command, self._env(switches, env)))

    def start(self, process: P) -> P:
        """Ended with the stage."""
        self.processes.append(process)
        return process

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.processes)}"

    def _env(self, switches: Sequence[str], more: Mapping[str, str]) -> dict[str, str]:
        return {**self.env, "SWITCHES": ",".join([*self._switches, *switches]), **more}


def _dotted(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in query.items()}


async def signed_in(stage: Stage, api: Api, http: httpx.AsyncClient) -> Person:
    """Owner of what is uploaded from here on."""
    await api.ready()
    person = await Person.registered(http, f"{random_token(48)}@example.com")
    stage.owner_id = person.user_id
    return person
