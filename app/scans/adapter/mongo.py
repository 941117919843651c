"""Scans in MongoDB: ordered, listed, followed. Every step of listing is one update of one row, fenced by its token."""

import zlib
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.scans.domain.errors import ScanNotFound
from app.scans.domain.scan import Batch, Scan
from core.idempotency import IdempotencyRecord
from core.mongo import Record, Row, in_transaction, to_model, translated

NOW = "$$NOW"
OPEN_SCANS = ("PENDING", "RUNNING")


class ScanRecord(Scan, Record):
    class Settings:
        name = "scans"
        indexes: ClassVar = [
            IndexModel(  # reconciler: what is not over, woken longest ago
                [("run.woken_at", ASCENDING)],
                name="open",
                partialFilterExpression={"status": {"$in": list(OPEN_SCANS)}},
            ),
            IndexModel(  # reconciler: whose lease ran out
                [("run.locked_until", ASCENDING)],
                name="running",
                partialFilterExpression={"run.state": "running"},
            ),
        ]


class ScanBatchRecord(Batch, Record):
    """PENDING until it is DELIVERED or EXHAUSTED; `body` is compressed, and forgotten when the row is closed."""

    body: bytes | None = None  # type: ignore[assignment]
    status: str
    next_attempt_at: datetime
    delivered_at: datetime | None = None
    error: str | None = None

    class Settings:
        name = "scan_batches"
        indexes: ClassVar = [
            IndexModel([("scan_id", 1), ("number", 1)], name="numbers", unique=True),  # none twice
            # what waits, what was taken
            IndexModel([("scan_id", 1), ("status", 1), ("number", 1)], name="scan_status"),
        ]


class ScanKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


RECORDS = (ScanRecord, ScanBatchRecord, ScanKeyRecord)


class MongoScans:
    """Scans in the collection `scans`, their messages in `scan_batches`."""

    def __init__(self, lease_s: float, interval_s: float) -> None:
        """`interval_s`: how long a wake-up counts."""
        self._lease_s, self._interval_s = lease_s, interval_s

    async def add(self, scan: Scan) -> Scan:
        try:
            with translated():
                await self._rows.insert_one(scan.model_dump(exclude={"id"}) | {"_id": scan.id})
        except DuplicateKeyError:
            return await self.get(scan.id)
        return scan

    async def get(self, scan_id: str) -> Scan:
        with translated():
            row = await self._rows.find_one({"_id": scan_id})
        if row is None:
            raise ScanNotFound
        return to_model(Scan, row)

    async def delivered(self, scan: Scan) -> int:
        query = {"scan_id": scan.id, "status": "DELIVERED", "number": {"$lt": scan.batches}}  # not the completion
        return await self._count(query)

    async def unsent(self, scan_id: str) -> int:
        return await self._count({"scan_id": scan_id, "status": "PENDING"})

    async def claim(self, scan_id: str, token: str) -> Scan | None:
        waiting = {"_id": scan_id, "run.state": "queued", "$expr": {"$lte": ["$run.ready_at", NOW]}}
        claimed = {
            "status": "RUNNING",
            "run.state": "running",
            "run.token": token,
            "run.tries": {"$add": ["$run.tries", 1]},
            "run.locked_until": later(self._lease_s),
        }
        return await change_scan(waiting, claimed)

    async def beat(self, scan_id: str, token: str) -> None:
        await change_scan(_fence(scan_id, token), {"run.locked_until": later(self._lease_s)})

    async def advance(self, scan: Scan, batch: Batch | None, *, token: str) -> Scan | None:
        goes_on = scan.run.state is not None
        told = scan.model_dump(include={"cursor", "failed_folders", "batches", "documents", "error"})
        step = {name: {"$literal": value} for name, value in told.items()} | {
            "run.tries": 0,
            "run.state": "running" if goes_on else None,
            "run.token": token if goes_on else None,
            "run.locked_until": later(self._lease_s) if goes_on else None,
        }

        async def store(session: AsyncClientSession) -> Scan | None:
            moved = await change_scan(_fence(scan.id, token), step, session)
            if moved is not None and batch is not None:
                await batch_rows().insert_one(self._row(batch), session=session)
            return moved

        return await in_transaction(self._rows, store)

    async def give_back(self, scan_id: str, token: str, *, delay_s: float) -> None:
        counted = {"run.tries": {"$add": ["$run.tries", -1]}}
        await change_scan(_fence(scan_id, token), _queued(delay_s) | counted)

    async def wake_due(self, limit: int) -> list[Scan]:
        dead = {"run.state": "running", "$expr": {"$lt": ["$run.locked_until", NOW]}}
        due = {
            "status": {"$in": list(OPEN_SCANS)},
            "$expr": {"$lte": ["$run.woken_at", later(-self._interval_s)]},
        }
        with translated():
            await self._rows.update_many(dead, [{"$set": _queued(0) | {"run.woken_at": None}}])
            found = await self._rows.find(due, {"_id": 1}).sort("run.woken_at", ASCENDING).limit(limit).to_list()
        woken = [await change_scan({**due, "_id": row["_id"]}, {"run.woken_at": NOW}) for row in found]
        return [scan for scan in woken if scan is not None]

    async def _count(self, query: Row) -> int:
        with translated():
            return int(await batch_rows().count_documents(query))

    def _row(self, batch: Batch) -> Row:
        row = batch.model_dump(exclude={"id"}) | {"_id": batch.id, "body": zlib.compress(batch.body)}
        return row | {"status": "PENDING", "next_attempt_at": batch.created_at}

    @property
    def _rows(self) -> Any:
        return scan_rows()


def scan_rows() -> Any:
    return ScanRecord.get_pymongo_collection()


def batch_rows() -> Any:
    return ScanBatchRecord.get_pymongo_collection()


async def change_scan(query: Row, update: Row, session: AsyncClientSession | None = None) -> Scan | None:
    """The scan after one conditional update; None where the condition does not hold."""
    with translated():
        row = await scan_rows().find_one_and_update(
            query, [{"$set": update}], return_document=ReturnDocument.AFTER, session=session
        )
    return None if row is None else to_model(Scan, row)


def later(seconds: float) -> Row:
    return {"$add": [NOW, round(seconds * 1000)]}


def _fence(scan_id: str, token: str) -> Row:
    return {"_id": scan_id, "run.state": "running", "run.token": token}


def _queued(delay_s: float) -> Row:
    return {"run.state": "queued", "run.token": None, "run.locked_until": None, "run.ready_at": later(delay_s)}
