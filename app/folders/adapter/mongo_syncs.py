"""Syncs in MongoDB: each step one conditional update of one row, on the database's clock."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel

from app.folders.contracts import ScanCounts
from app.folders.domain.errors import SyncNotFound
from app.folders.domain.sync import SENTENCES, EventType, ScanEnd, Sync, SyncErrorCode
from app.scans.contracts import ScanStatus
from core.events import event_id
from core.mongo import NOW, Record, Row, change_one, find_one, get_one, insert_new, later, translated
from core.relay import OUTBOX_INDEX, DeliveryRecord

OPEN: Row = {"$in": ["PENDING", "RUNNING"]}
LOOK_AGAIN_S, LEASE_S = 30, 60


class SyncRecord(Sync, Record):
    class Settings:
        name = "syncs"
        indexes: ClassVar = [
            IndexModel(  # the reconciler: what somebody must look after, longest first
                [("next_at", ASCENDING)], name="open", partialFilterExpression={"status": OPEN}
            ),
            OUTBOX_INDEX,
        ]


class FolderDeliveryRecord(DeliveryRecord):
    """Events of syncs, one row per subscriber."""


class MongoSyncs:
    async def add(self, sync: Sync) -> Sync:
        return sync if await insert_new(SyncRecord.rows(), sync) else await self.get(sync.id, sync.owner_id)

    async def get(self, sync_id: str, owner_id: str) -> Sync:
        return await get_one(SyncRecord.rows(), {"_id": sync_id, "owner_id": owner_id}, Sync, SyncNotFound)

    async def find_for_worker(self, sync_id: str) -> Sync | None:
        return await find_one(SyncRecord.rows(), {"_id": sync_id}, Sync)

    async def due(self, limit: int) -> Sequence[Sync]:
        waiting = {"status": OPEN, "$expr": {"$lte": ["$next_at", NOW]}}
        with translated():
            found = await SyncRecord.rows().find(waiting, {"_id": 1}).sort("next_at", ASCENDING).limit(limit).to_list()
        taken = [await self._change({**waiting, "_id": row["_id"]}, {}) for row in found]
        return [sync for sync in taken if sync]

    async def ordered(self, sync_id: str, scan_id: str) -> None:
        query = {"_id": sync_id, "status": "PENDING"}
        await self._change(query, {"status": "RUNNING", "scan_id": {"$ifNull": ["$scan_id", {"$literal": scan_id}]}})

    async def heard(self, sync_id: str) -> None:
        await self._change({"_id": sync_id, "status": OPEN}, {"heard_at": NOW})

    async def mark(self, sync_id: str, scan_id: str, batch: str, skipped: int) -> Sync | None:
        return await self._told(sync_id, scan_id, f"batches.{batch}", skipped, {"$exists": False})

    async def mark_end(self, sync_id: str, scan_id: str, end: ScanEnd) -> Sync | None:
        return await self._told(sync_id, scan_id, "end", {"$literal": end.model_dump()}, None)

    async def hold(self, sync_id: str, token: str) -> bool:
        free = {"_id": sync_id, "status": OPEN, "$expr": {"$lte": ["$locked_until", NOW]}}  # null is before every date
        return await self._change(free, {"token": token, "locked_until": later(LEASE_S)}, LEASE_S) is not None

    async def finish(
        self, sync_id: str, status: ScanStatus, counts: ScanCounts, error: SyncErrorCode | None, token: str | None
    ) -> bool:
        query = {"_id": sync_id, "status": OPEN, **({} if token is None else {"token": token})}
        type_: EventType = "scan.completed" if status == "COMPLETED" else "scan.failed"
        reason = None if error is None else {"code": error, "detail": SENTENCES[error]}
        documents = {f"documents_{name}": count for name, count in asdict(counts).items()}
        told = {
            "event_id": event_id(sync_id, 1), "seq": 1, "type": type_, "at": NOW, "owner_id": "$owner_id",
            "trace": "$trace",
            "data": {"sync_id": "$_id", "status": status, **documents, "error": reason},
        }  # fmt: skip
        over = {"status": status, "counts": asdict(counts), "error": error, "finished_at": NOW, "outbox": [told]}
        return await self._change(query, {**over, "token": None, "locked_until": None}) is not None

    async def _told(self, sync_id: str, scan_id: str, field: str, value: Any, unknown: Any) -> Sync | None:
        """The first message binds the scan, also where it overtakes the answer to our order."""
        query = {"_id": sync_id, "status": OPEN, "scan_id": {"$in": [None, scan_id]}, field: unknown}
        update = {"status": "RUNNING", "scan_id": {"$literal": scan_id}, "heard_at": NOW, field: value}
        return await self._change(query, update)

    async def _change(self, query: Row, update: Row, look_again_s: float = LOOK_AGAIN_S) -> Sync | None:
        return await change_one(SyncRecord.rows(), query, [{"$set": {**update, "next_at": later(look_again_s)}}], Sync)
