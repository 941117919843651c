"""The hot queries of docs/data-model.md use the index made for them: no scan, no sort, no wasted keys."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.documents.adapter import mongo as documents_mongo
from app.documents.adapter.mongo import DocumentDeliveryRecord, DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.domain.document import Document, Run, RunResult, RunState, Status
from app.documents.domain.ports import Filters
from app.documents.domain.processors import ProcessingError
from app.documents.domain.run_policy import RunPolicy
from app.folders.adapter import mongo as folders_mongo
from app.folders.adapter.mongo import FolderKeyRecord, FolderRecord, MongoFolders
from app.users.adapter import mongo as users_mongo
from app.users.adapter.mongo import MongoSessions, MongoUsers
from core.clock import utc_now
from core.events import OutboxEvent, Subscriber
from core.idempotency import MongoIdempotencyKeys
from core.ids import new_id
from core.local.stack import LocalServers
from core.mongo import Client, init_records, make_client
from core.paging import Position
from core.relay import Relay

ROOT = Path(__file__).parents[2]
OWNERS, EACH, PAGE = 20, 100, 20
RECORDS = {"users": users_mongo.RECORDS, "folders": folders_mongo.RECORDS, "documents": documents_mongo.RECORDS}
DATABASES = [f"explain_{module}" for module in RECORDS]


@pytest.fixture(scope="module")
async def client(servers: LocalServers) -> AsyncIterator[Client]:
    """Twenty owners with a hundred documents each, some of them at work."""
    client = make_client(servers.mongo_url, in_worker=False)
    await init_records(client, "explain", RECORDS, build_indexes=True)
    now = utc_now()
    rows = [_document(number, now) for number in range(OWNERS * EACH)]
    await DocumentRecord.get_pymongo_collection().insert_many(
        [{"_id": row.id, **row.model_dump(exclude={"id"})} for row in rows]
    )
    await FolderRecord.get_pymongo_collection().insert_many(
        [
            {"_id": new_id("fld"), "owner_id": f"usr_{number % OWNERS}", "name": f"{number}", "created_at": now,
             "source": None, "version": 1, "updated_at": now}
            for number in range(OWNERS * EACH)
        ]
    )  # fmt: skip
    yield client
    await asyncio.gather(*(client.drop_database(name) for name in DATABASES))
    await client.close()


STATUSES: tuple[Status, ...] = ("UPLOADED", "COMPLETED", "FAILED")


def _document(number: int, now: datetime) -> Document:
    """Every hundredth is at work; of those that run, three have lost their worker."""
    run = Run(woken_at=now - timedelta(minutes=1), ready_at=now, deadline_at=now + timedelta(hours=1))
    status = STATUSES[number % 3]
    if number % 100 == 0:
        state: RunState = "running" if number % 200 else "queued"
        lease = timedelta(minutes=-1 if number < 600 else 5)
        status = "PROCESSING"
        run = run.model_copy(update={"state": state, "locked_until": now + lease, "token": "t"})
    elif status == "FAILED":
        run = run.model_copy(update={"error": ProcessingError.of("timeout")})
    elif status == "COMPLETED":
        result = RunResult(
            attempt=1, processor="extract", version="1", partial=False, warnings=(), summary=None, objects={}
        )
        run = run.model_copy(update={"result": result})
    return Document(
        id=new_id("doc"),
        owner_id=f"usr_{number % OWNERS}",
        filename=f"{number % 7}.pdf",
        content_type="application/pdf",
        size=1,
        sha256=f"{number % 50}",
        key="k",
        status=status,
        folder_id=f"fld_{number % 5}",
        external_id=f"e{number % 11}",
        created_at=now - timedelta(seconds=number),
        updated_at=now,
        run=run,
    )


HERE = Position(utc_now() - timedelta(seconds=500), "doc_5")
DOCUMENTS = MongoDocuments(utc_now)
RUNS = MongoRuns(RunPolicy(lease_s=30, interval_s=10))


async def _ignored(_: OutboxEvent) -> None:
    """Nobody is told."""


DEAF = Subscriber("deaf", frozenset(), _ignored)

QUERIES: dict[str, Callable[[], Awaitable[object]]] = {
    "one document": lambda: DOCUMENTS.find_by_sha256("7", "usr_7"),
    "first page": lambda: DOCUMENTS.list("usr_3", Filters(), None, PAGE),
    "a later page": lambda: DOCUMENTS.list("usr_3", Filters(), HERE, PAGE),
    "by status": lambda: DOCUMENTS.list("usr_3", Filters(status="COMPLETED"), None, PAGE),
    "by folder": lambda: DOCUMENTS.list("usr_3", Filters(folder_id="fld_3"), None, PAGE),
    "by external id": lambda: DOCUMENTS.list("usr_3", Filters(external_id="e3"), None, PAGE),
    "by name": lambda: DOCUMENTS.list("usr_3", Filters(filename="3.pdf"), None, PAGE),
    "folder is empty": lambda: DOCUMENTS.has_documents("fld_3", "usr_3"),
    "events to be routed": lambda: Relay(DocumentRecord, DocumentDeliveryRecord, ()).run(),
    "deliveries that are due": lambda: Relay(DocumentRecord, DocumentDeliveryRecord, (DEAF,))._claim("t"),
    "tombstones": lambda: DOCUMENTS.removed(PAGE),
    "to be woken": lambda: RUNS.wake_due(PAGE),
    "overdue": lambda: RUNS.end_overdue(PAGE),
    "dead workers": lambda: RUNS.free_dead(PAGE),
    "folders": lambda: MongoFolders().list("usr_3", None, PAGE),
    "account of an address": lambda: MongoUsers().find_by_email("nobody@example.com"),
    "idempotency key": lambda: MongoIdempotencyKeys(FolderKeyRecord).claim("k", ("h",), "cmd_1"),
    "session is alive": lambda: MongoSessions().seconds_left("ses_1", "usr_1"),
    "sessions of a person": lambda: MongoSessions().list("usr_1"),
    "end of all sessions": lambda: MongoSessions().end_all("usr_1"),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_hot_query_reads_what_it_returns(client: Client, name: str) -> None:
    """The database's own profiler says how each command of the repository was really answered."""
    for database in DATABASES:
        await client[database].command("profile", 2)
    try:
        await QUERIES[name]()
    finally:
        for database in DATABASES:
            await client[database].command("profile", 0)
    seen: list[dict[str, Any]] = []
    for database in DATABASES:
        rows = client[database]["system.profile"]
        seen += await rows.find(
            {"ns": {"$not": re.compile("system")}, "op": {"$in": ["query", "update", "command"]}}
        ).to_list()
        await rows.drop()
    asked = [row for row in seen if "planSummary" in row]
    assert asked, "the repository asked the database nothing"
    for row in asked:
        plan = f"{row['planSummary']} examined {row['keysExamined']} returned {row.get('nreturned')}"
        assert row["planSummary"].startswith(("IXSCAN", "IDHACK")), plan
        assert not row.get("hasSortStage"), plan
        assert row["keysExamined"] <= row.get("nreturned", 0) * 1.2 + 3, plan


async def test_the_data_model_page_names_every_collection_and_index(client: Client) -> None:
    page = (ROOT / "docs/data-model.md").read_text()
    for database in DATABASES:
        for collection in await client[database].list_collection_names(
            filter={"name": {"$not": re.compile("^system")}}
        ):
            assert f"`{collection}`" in page
            for index in await client[database][collection].index_information():
                assert index == "_id_" or f"`{index}`" in page, f"{collection}.{index}"
