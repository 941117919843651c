"""What the busy routes cost, in round trips and not in seconds; and that sharing them mixes nobody up."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import httpx
import pytest
from dependency_injector import providers
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from redis.asyncio.connection import AbstractConnection

from app.container import Container, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.documents.adapter.schemas import DocumentRead
from app.runtime import migrate
from app.server import create_app
from core.config import Settings
from core.http.pagination import ListRead
from core.http.request_log import RequestLog
from core.ids import random_token
from core.local.stack import LocalServers
from tests.api.conftest import RecordedWakeUps
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET, Person, problem
from tests.corpus.pdfs import pdf

CROWD = 16


@dataclass
class Counted(CommandListener):
    """Commands that MongoDB was sent, fields of the rows it answered, and messages to Redis."""

    mongo: list[str] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)
    row_bytes: list[int] = field(default_factory=list)
    redis: int = 0

    def started(self, event: CommandStartedEvent) -> None:
        self.mongo.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        for row in event.reply.get("cursor", {}).get("firstBatch", []):
            self.fields.update(row)
            self.row_bytes.append(len(bson.encode(row)))

    def failed(self, event: CommandFailedEvent) -> None:
        """The answer to the request tells."""

    def forget(self) -> None:
        self.mongo, self.fields, self.row_bytes, self.redis = [], set(), [], 0


@pytest.fixture(scope="module")
def counted() -> Counted:
    return Counted()


@pytest.fixture(scope="module", autouse=True)
def counting(counted: Counted) -> Iterator[None]:
    send = AbstractConnection.send_packed_command

    async def count(self: AbstractConnection, *args: Any, **options: Any) -> None:
        counted.redis += 1
        await send(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", count)
        yield


@pytest.fixture(scope="module")
async def container(
    servers: LocalServers, counted: Counted, tmp_path_factory: pytest.TempPathFactory, signing_key: Path
) -> AsyncIterator[Container]:
    settings = Settings(
        app_env="test", data_dir=tmp_path_factory.mktemp("hot"), mongo_url=SecretStr(servers.mongo_url),
        mongo_db=f"t{random_token(48)}", redis_url=SecretStr(servers.redis_url), storage_backend="local",
        jwt_private_keys=(str(signing_key),), private_tokens=SecretStr(PRIVATE_TOKEN),
        scan_signing_secret=SecretStr(SIGNING_SECRET),
    )  # fmt: skip
    container = build_container(settings, "api")
    container.wake_ups.override(providers.Singleton(RecordedWakeUps))
    container.mongo.override(
        providers.Singleton(AsyncMongoClient, servers.mongo_url, tz_aware=True, event_listeners=[counted])
    )
    await migrate(container)
    yield container
    container.unwire()


@pytest.fixture(scope="module")
async def http(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(container, request_log=RequestLog("api", write=lambda _: None))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dossier.test") as client,
    ):
        yield client


@pytest.fixture(scope="module")
async def ada(http: httpx.AsyncClient) -> Person:
    return await Person.registered(http, "ada@example.com")


@pytest.fixture(scope="module")
async def document_id(ada: Person) -> str:
    return str((await ada.uploaded(pdf(["a"])))["document_id"])


@pytest.fixture(scope="module")
async def folder_id(ada: Person) -> str:
    return str((await ada.post("/folders", json={"name": "one"})).json()["folder_id"])


@pytest.mark.parametrize(
    "path",
    [
        "/documents/{document_id}", "/documents/{document_id}/status", "/documents", "/documents?status=UPLOADED",
        "/folders/{folder_id}", "/folders",
    ],
)  # fmt: skip
async def test_a_read_is_one_command_and_one_round_trip(
    path: str, ada: Person, counted: Counted, document_id: str, folder_id: str
) -> None:
    path = path.format(document_id=document_id, folder_id=folder_id)
    assert (await ada.get(path)).status_code == 200
    counted.forget()
    assert (await ada.get(path)).status_code == 200
    assert (counted.mongo, counted.redis) == (["find"], 1)


async def test_a_small_write_is_one_command_and_one_round_trip(ada: Person, counted: Counted) -> None:
    await ada.get("/folders")
    counted.forget()
    assert (await ada.post("/folders", json={"name": "another"})).status_code == 201
    assert (counted.mongo, counted.redis) == (["insert"], 1)


async def test_an_upload_is_one_insert(ada: Person, counted: Counted) -> None:
    await ada.get("/folders")
    counted.forget()
    await ada.uploaded(pdf(["b"]))
    assert (counted.mongo, counted.redis) == (["insert"], 1)


@pytest.mark.parametrize("suffix", ["", "/status"])
async def test_a_crowd_shares_its_round_trips(suffix: str, ada: Person, counted: Counted, document_id: str) -> None:
    for _ in range(2):  # the first opens connections
        counted.forget()
        answers = await asyncio.gather(*(ada.get(f"/documents/{document_id}{suffix}") for _ in range(CROWD)))
        assert {answer.status_code for answer in answers} == {200}
    assert len(counted.mongo) <= 2
    assert counted.redis <= 2


async def test_a_thousand_at_once_are_all_let_in(ada: Person, container: Container, document_id: str) -> None:
    session_id = container.token_codec().verify_access(ada.tokens["access_token"]).session_id
    assert await container.redis().unlink(f"session:{session_id}") == 1  # each of them asks MongoDB as well
    answers = await asyncio.gather(*(ada.get(f"/documents/{document_id}") for _ in range(1000)))
    assert {answer.status_code for answer in answers} == {200}


async def test_no_read_waits_for_a_thread(ada: Person, document_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"/documents/{document_id}", f"/documents/{document_id}/status", "/documents"]
    for path in paths:
        await ada.get(path)

    def hop(*_: Any, **__: Any) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", hop)
    monkeypatch.setattr(threading.Thread, "start", hop)
    for path in paths:
        assert (await ada.get(path)).status_code == 200


async def test_in_a_crowd_each_gets_his_own_verdict(http: httpx.AsyncClient, ada: Person, document_id: str) -> None:
    eve, gone = [await Person.registered(http, f"{name}@example.com") for name in ("eve", "gone")]
    theirs = (await eve.uploaded(pdf(["c"])))["document_id"]
    await gone.get("/documents")  # its token and its session are known well
    await gone.post("/auth/logout")
    mine, hers, not_mine, not_hers, ended, ghost = await asyncio.gather(
        ada.get(f"/documents/{document_id}"),
        eve.get(f"/documents/{theirs}"),
        ada.get(f"/documents/{theirs}"),
        eve.get(f"/documents/{document_id}"),
        gone.get(f"/documents/{theirs}"),
        ada.get("/documents/doc_ghost"),
    )
    assert (mine.json()["document_id"], hers.json()["document_id"]) == (document_id, theirs)
    for answer in (not_mine, not_hers, ghost):
        problem(answer, 404, "not_found")
    problem(ended, 401, "token_revoked")


async def test_a_list_says_what_its_model_would_and_reads_no_more(
    ada: Person, counted: Counted, folder_id: str
) -> None:
    rows = DocumentRecord.get_pymongo_collection()
    odd = await ada.uploaded(pdf(["d"]), 'Ünï "quoted".pdf', folder_id=folder_id, external_id="e-1",
                             metadata='{"key": "✓ \\u0001 <"}')  # fmt: skip
    for status, run in (("PROCESSING", {"state": "queued"}), ("FAILED", {"error": {}}), ("COMPLETED", {"result": {}})):
        copy = await rows.find_one({"_id": odd["document_id"]})
        assert copy is not None
        await rows.insert_one(
            {**copy, "_id": f"doc_{status}", "status": status, "run": {**copy["run"], **run}, "sha256": None,
             "folder_id": None, "external_id": None, "created_at": copy["created_at"].replace(microsecond=0)}
        )  # fmt: skip
    counted.forget()
    answer = await ada.get("/documents")
    assert counted.fields == set(DocumentRead.model_fields) - {"document_id"} | {"_id"}
    assert max(counted.row_bytes) < 450  # a whole record is three times as much
    page = ListRead[DocumentRead].model_validate_json(answer.content)
    assert answer.text == page.model_dump_json()
    assert {item.status for item in page.items} == {"UPLOADED", "PROCESSING", "FAILED", "COMPLETED"}
    for item in answer.json()["items"]:
        if item["document_id"] == odd["document_id"]:
            assert (await ada.get(f"/documents/{item['document_id']}")).json() == item


async def test_pages_follow_each_other_without_gap(ada: Person) -> None:
    whole = [item["document_id"] for item in (await ada.get("/documents")).json()["items"]]
    seen, path = [], "/documents?limit=2"
    while path:
        page = (await ada.get(path)).json()
        seen += [item["document_id"] for item in page["items"]]
        path = f"/documents?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert seen == whole


async def test_what_start_up_made_is_not_looked_at_by_the_collector(ada: Person) -> None:
    assert gc.get_freeze_count() > 0


async def test_reads_leave_nothing_behind(ada: Person, counted: Counted, document_id: str) -> None:
    async def read(times: int) -> int:
        for _ in range(times):
            await ada.get(f"/documents/{document_id}")
            await ada.get("/documents")
        counted.forget()
        gc.collect()
        return sys.getallocatedblocks()

    before = await read(50)
    assert await read(200) - before < 1200, "three blocks for each of them: one that is kept has dozens"
