"""Scans in MongoDB: ordered, listed, followed. Every step of listing is one update of one row, fenced by its token."""

import zlib
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.client_session import AsyncClientSession

from app.scans.domain.errors import ScanNotFound
from app.scans.domain.scan import Batch, Scan
from core.idempotency import IdempotencyRecord
from core.mongo import NOW, Record, Row, change_one, get_one, in_transaction, insert_new, later, to_row, translated

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
                [("run.locked_until", ASCENDING)], name="running", partialFilterExpression={"run.state": "running"}
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
        return scan if await insert_new(ScanRecord.rows(), scan) else await self.get(scan.id)

    async def get(self, scan_id: str) -> Scan:
        return await get_one(ScanRecord.rows(), {"_id": scan_id}, Scan, ScanNotFound)

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
                await ScanBatchRecord.rows().insert_one(self._row(batch), session=session)
            return moved

        return await in_transaction(ScanRecord.rows(), store)

    async def give_back(self, scan_id: str, token: str, *, delay_s: float) -> None:
        counted = {"run.tries": {"$add": ["$run.tries", -1]}}
        await change_scan(_fence(scan_id, token), _queued(delay_s) | counted)

    async def wake_due(self, limit: int) -> list[Scan]:
        dead = {"run.state": "running", "$expr": {"$lt": ["$run.locked_until", NOW]}}
        due = {"status": {"$in": list(OPEN_SCANS)}, "$expr": {"$lte": ["$run.woken_at", later(-self._interval_s)]}}
        with translated():
            await ScanRecord.rows().update_many(dead, [{"$set": _queued(0) | {"run.woken_at": None}}])
            found = await ScanRecord.rows().find(due, {"_id": 1}).sort("run.woken_at", ASCENDING).limit(limit).to_list()
        woken = [await change_scan({**due, "_id": row["_id"]}, {"run.woken_at": NOW}) for row in found]
        return [scan for scan in woken if scan is not None]

    async def _count(self, query: Row) -> int:
        with translated():
            return int(await ScanBatchRecord.rows().count_documents(query))

    def _row(self, batch: Batch) -> Row:
        waiting = {"status": "PENDING", "next_attempt_at": batch.created_at}
        return to_row(batch) | waiting | {"body": zlib.compress(batch.body)}


async def change_scan(query: Row, update: Row, session: AsyncClientSession | None = None) -> Scan | None:
    """The scan after one conditional update; None where the condition does not hold."""
    return await change_one(ScanRecord.rows(), query, [{"$set": update}], Scan, session=session)


def _fence(scan_id: str, token: str) -> Row:
    return {"_id": scan_id, "run.state": "running", "run.token": token}


def _queued(delay_s: float) -> Row:
    return {"run.state": "queued", "run.token": None, "run.locked_until": None, "run.ready_at": later(delay_s)}
