"""The hot queries of docs/data-model.md use the index made for them: no scan, no sort, no wasted keys."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.documents.adapter import mongo as documents_mongo
from app.documents.adapter.mongo import DocumentDeliveryRecord, DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.adapter.mongo_scanned import MongoScannedDocuments
from app.documents.adapter.mongo_uploads import MongoDirectUploads
from app.documents.domain.document import Document, Run, RunResult, RunState, Status
from app.documents.domain.ports import Filters
from app.documents.domain.processors import ProcessingError
from app.documents.domain.run_policy import RunPolicy
from app.folders.adapter import mongo as folders_mongo
from app.folders.adapter.mongo import FolderKeyRecord, FolderRecord, MongoFolders
from app.folders.adapter.mongo_syncs import FolderDeliveryRecord, MongoSyncs, SyncRecord
from app.folders.contracts import ScannedFile, ScannedFolder
from app.inventory.adapter import mongo as inventory_mongo
from app.inventory.adapter.ledger import Ledger
from app.inventory.adapter.mongo import MongoProductSnapshots, StockDeliveryRecord, StockOutboxRecord
from app.inventory.adapter.mongo_stock import MongoReservations, MongoStock
from app.products.adapter import mongo as products_mongo
from app.products.adapter.mongo import MongoProducts, ProductDeliveryRecord, ProductRecord
from app.products.domain.ports import Change
from app.products.domain.ports import Filters as ProductFilters
from app.products.domain.product import Product, event_of
from app.scans.adapter import mongo as scans_mongo
from app.scans.adapter.mongo import MongoScans, ScanBatchRecord, ScanRecord
from app.scans.adapter.mongo_outgoing import MongoOutgoing
from app.scans.domain.scan import Run as ScanRun
from app.scans.domain.scan import Scan
from app.users.adapter import mongo as users_mongo
from app.users.adapter.mongo import MongoSessions, MongoUsers
from app.webhooks.adapter import mongo as webhooks_mongo
from app.webhooks.adapter.mongo import MongoWebhooks, WebhookRecord
from app.webhooks.adapter.mongo_deliveries import MongoDeliveries, WebhookDeliveryRecord
from app.webhooks.domain.delivery import Delivery
from app.webhooks.domain.webhook import Webhook
from core.clock import utc_now
from core.events import OutboxEvent, Subscriber
from core.idempotency import MongoIdempotencyKeys
from core.ids import new_id
from core.local.stack import LocalServers
from core.mongo import Client, init_records, make_client
from core.paging import Position
from core.relay import Relay
from tests.integration.inventory import rows as stock_rows

ROOT = Path(__file__).parents[2]
OWNERS, EACH, PAGE = 20, 100, 20
RECORDS = {
    "users": users_mongo.RECORDS,
    "folders": folders_mongo.RECORDS,
    "documents": documents_mongo.RECORDS,
    "products": products_mongo.RECORDS,
    "inventory": inventory_mongo.RECORDS,
    "scans": scans_mongo.RECORDS,
    "webhooks": webhooks_mongo.RECORDS,
}
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
    await PRODUCTS.write([_created(number, now) for number in range(OWNERS * EACH)])
    await stock_rows.fill(now)
    await ScanRecord.rows().insert_many([_scan(number, now) for number in range(OWNERS * EACH)])
    await ScanBatchRecord.rows().insert_many(_batch(number, now) for number in range(OWNERS * EACH))
    hooks, deliveries = zip(*(_webhook_and_delivery(number, now) for number in range(OWNERS * EACH)), strict=True)
    await WebhookRecord.get_pymongo_collection().insert_many(hooks)
    await WebhookDeliveryRecord.get_pymongo_collection().insert_many(deliveries)
    yield client
    await asyncio.gather(*(client.drop_database(name) for name in DATABASES))
    await client.close()


def _scan(number: int, now: datetime) -> dict[str, Any]:
    """Every hundredth is open; of those that run, three have lost their worker."""
    state = None if number % 100 else "running" if number % 200 else "queued"
    lease = timedelta(minutes=-1 if number < 600 else 5)
    run = {"state": state, "token": "t", "woken_at": now - timedelta(minutes=1), "locked_until": now + lease}
    scan = Scan(
        id=f"scn_{number}", status="RUNNING" if state else "COMPLETED", user_id="7", folders=(), callback_url=None,
        correlation_id=None, key_id="", request_id="", created_at=now, run=ScanRun.model_validate(run),
    )  # fmt: skip
    return {"_id": scan.id, **scan.model_dump(exclude={"id"})}


def _batch(number: int, now: datetime) -> dict[str, Any]:
    """The last three of each scan wait."""
    status = "PENDING" if number // OWNERS >= EACH - 3 else "DELIVERED"
    return {
        "_id": new_id("msg"), "scan_id": f"scn_{number % OWNERS}", "number": number // OWNERS, "status": status,
        "body": zlib.compress(b""), "created_at": now, "next_attempt_at": now,
    }  # fmt: skip


def _webhook_and_delivery(number: int, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every tenth delivery waits, every twentieth has its time still to come."""
    hook = Webhook(
        id=f"whk_{number}", owner_id=f"usr_{number % OWNERS}", url="https://hooks.example.com/",
        events=("document.failed", "scan.failed") if number // OWNERS % 10 else ("document.deleted",), secrets=(),
        created_at=now - timedelta(seconds=number), updated_at=now,
    )  # fmt: skip
    soon = now + timedelta(minutes=-1 if number % 20 else 5)
    waits = number // OWNERS % 10 == 0
    delivery = Delivery(
        id=new_id("dlv"), webhook_id=f"whk_{number % OWNERS}", owner_id=hook.owner_id, event_id="evt_1", body=b"{}",
        event_type="document.failed", status="FAILED" if waits else "DELIVERED", closed_at=None if waits else now,
        next_attempt_at=soon if waits else None, created_at=hook.created_at,
    )  # fmt: skip
    return tuple({"_id": made.id, **made.model_dump(exclude={"id"})} for made in (hook, delivery))  # type: ignore


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


def _created(number: int, now: datetime) -> Change:
    """Every tenth is archived."""
    product = Product(
        id=new_id("prd"),
        sku=f"S-{number}",
        name=f"Thing {number % 7}",
        status="archived" if number % 10 == 0 else "active",
        created_at=now - timedelta(seconds=number),
        updated_at=now,
    )
    return Change(product, event_of(product, None, "service:api_key"))


PRODUCTS = MongoProducts()
SCANS = MongoScans(30, 10)
WEBHOOKS, WEBHOOK_DELIVERIES = MongoWebhooks(), MongoDeliveries(utc_now)
HERE = Position(utc_now() - timedelta(seconds=500), "doc_5")
DOCUMENTS = MongoDocuments(utc_now)
SCANNED, SCANNED_FILE = MongoScannedDocuments(utc_now, 100), ScannedFile("a.pdf", "a.pdf", 1, "e", "application/pdf")
STOCK_RELAY = Relay(StockOutboxRecord, StockDeliveryRecord, ())
LEDGER = Ledger(STOCK_RELAY)
STOCK, RESERVATIONS = MongoStock(LEDGER, utc_now), MongoReservations(LEDGER, utc_now)
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
    "by folder and status": lambda: DOCUMENTS.list("usr_3", Filters(status="FAILED", folder_id="fld_3"), None, PAGE),
    "by external id": lambda: DOCUMENTS.list("usr_3", Filters(external_id="e3"), None, PAGE),
    "by name": lambda: DOCUMENTS.list("usr_3", Filters(filename="3.pdf"), None, PAGE),
    "folder is empty": lambda: DOCUMENTS.has_documents("fld_3", "usr_3"),
    "events to be routed": lambda: Relay(DocumentRecord, DocumentDeliveryRecord, ()).run(),
    "deliveries that are due": lambda: Relay(DocumentRecord, DocumentDeliveryRecord, (DEAF,))._claim("t"),
    "tombstones": lambda: DOCUMENTS.removed(PAGE),
    "records in the order of objects": lambda: DOCUMENTS.stored_after("", PAGE),
    "uploads that are over": lambda: MongoDirectUploads().expired(utc_now(), PAGE),
    "to be woken": lambda: RUNS.wake_due(PAGE),
    "overdue": lambda: RUNS.end_overdue(PAGE),
    "dead workers": lambda: RUNS.free_dead(PAGE),
    "a batch of a scan": lambda: SCANNED.take(ScannedFolder("fld_1", "usr_1", "s3://b/", 1), [SCANNED_FILE]),
    "what a scan missed": lambda: SCANNED.sweep(ScannedFolder("fld_1", "usr_1", "s3://b/", 1)),
    "counts of a scan": lambda: SCANNED.count(ScannedFolder("fld_1", "usr_1", "s3://b/", 2)),
    "syncs to look after": lambda: MongoSyncs().due(PAGE),
    "events of syncs": lambda: Relay(SyncRecord, FolderDeliveryRecord, ()).run(),
    "folders": lambda: MongoFolders().list("usr_3", None, PAGE),
    "products": lambda: PRODUCTS.list(ProductFilters(), HERE, PAGE),
    "products by status": lambda: PRODUCTS.list(ProductFilters(status="archived"), None, PAGE),
    "a product by SKU": lambda: PRODUCTS.find_by_skus(["s-5"]),
    "events of products": lambda: Relay(ProductRecord, ProductDeliveryRecord, ()).run(),
    "stock": lambda: STOCK.list(low=False, after=None, limit=PAGE),
    "stock that is low": lambda: STOCK.list(low=True, after=Position(utc_now(), "prd_0500"), limit=PAGE),
    "history of a product": lambda: STOCK.movements("prd_0003", None, PAGE),
    "older history": lambda: STOCK.movements("prd_0003", Position(utc_now(), "prd_0003#000000000050"), PAGE),
    "effect of a command on stock": lambda: STOCK.find_effect("cmd_3_5"),
    "what a command reserved": lambda: RESERVATIONS.find_effect("cmd_5"),
    "overdue reservations of a product": lambda: RESERVATIONS.expire_due(["prd_0003"]),
    "overdue reservations": lambda: RESERVATIONS.expire_due(),
    "copies of products": lambda: MongoProductSnapshots().find_all(["prd_0001"]),
    "events of stock": lambda: STOCK_RELAY.run(),
    "scans to be woken": lambda: SCANS.wake_due(PAGE),
    "messages of a scan that are due": lambda: MongoOutgoing().due("scn_3", PAGE),
    "messages that wait": lambda: SCANS.unsent("scn_3"),
    "webhooks": lambda: WEBHOOKS.list("usr_3", HERE, PAGE),
    "webhooks to be told": lambda: WEBHOOKS.subscribed("usr_3", "document.deleted"),
    "a place in a webhook": lambda: WEBHOOKS.enter("whk_3", "t", lease_s=30),
    "deliveries of a webhook": lambda: WEBHOOK_DELIVERIES.list("whk_3", None, HERE, PAGE),
    "deliveries by status": lambda: WEBHOOK_DELIVERIES.list("whk_3", "FAILED", None, PAGE),
    "deliveries to be sent": lambda: WEBHOOK_DELIVERIES.find_due(),
    "deliveries of a webhook that ended": lambda: WEBHOOK_DELIVERIES.exhaust("whk_none"),
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
        assert row["planSummary"].startswith(("IXSCAN", "IDHACK", "COUNT_SCAN")), plan
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
