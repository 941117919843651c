"""Messages of scans on their way to the host; the lease of sending lies in the scan."""

import zlib

from pymongo.asynchronous.client_session import AsyncClientSession

from app.scans.adapter.mongo import ScanBatchRecord, ScanRecord, change_scan
from app.scans.contracts import ScanError
from app.scans.domain.scan import DETAILS, Batch, Scan
from core.mongo import NOW, Row, in_transaction, later, to_model, translated

LEASE_S = 30  # a round takes 15


class MongoOutgoing:
    async def hold(self, scan_id: str, token: str) -> Scan | None:
        free = {"$or": [{"$eq": ["$sending.token", token]}, {"$lte": ["$sending.locked_until", NOW]}]}
        held = {"sending.token": token, "sending.locked_until": later(LEASE_S)}
        return await change_scan({"_id": scan_id, "status": "RUNNING", "$expr": free}, held)

    async def release(self, scan_id: str, token: str) -> None:
        await change_scan(
            {"_id": scan_id, "sending.token": token}, {"sending.token": None, "sending.locked_until": None}
        )

    async def due(self, scan_id: str, limit: int) -> list[Batch]:
        waiting = {"scan_id": scan_id, "status": "PENDING", "$expr": {"$lte": ["$next_attempt_at", NOW]}}
        with translated():
            rows = await ScanBatchRecord.rows().find(waiting).sort("number", 1).limit(limit).to_list()
        return [to_model(Batch, {**row, "body": zlib.decompress(row["body"])}) for row in rows]

    async def close(self, batch: Batch) -> None:
        taken = {"status": "DELIVERED", "delivered_at": NOW, "error": None, "body": None}
        await self._ended(batch, taken)

    async def postpone(self, batch: Batch, *, delay_s: float, error: str) -> None:
        await self._ended(batch, {"next_attempt_at": later(delay_s), "error": error})

    async def give_up(self, batch: Batch, error: str) -> None:
        failed = ScanError(code="callback_failed", detail=DETAILS["callback_failed"]).model_dump()
        over = {
            "status": "FAILED", "error": {"$literal": failed}, "finished_at": NOW,
            "run.state": None, "run.token": None, "run.locked_until": None,
        }  # fmt: skip

        async def end(session: AsyncClientSession) -> None:
            await change_scan({"_id": batch.scan_id, "status": "RUNNING"}, over, session)
            waiting = {"scan_id": batch.scan_id, "status": "PENDING"}
            closed = {"status": "EXHAUSTED", "body": None, "error": error}
            await ScanBatchRecord.rows().update_many(waiting, [{"$set": closed}], session=session)

        await in_transaction(ScanRecord.rows(), end)

    async def finish(self, scan_id: str) -> None:
        status = {"$cond": [{"$eq": ["$error", None]}, "COMPLETED", "FAILED"]}
        await change_scan(
            {"_id": scan_id, "status": "RUNNING", "run.state": None}, {"status": status, "finished_at": NOW}
        )

    async def _ended(self, batch: Batch, update: Row) -> None:
        """One attempt, counted once."""
        same = {"_id": batch.id, "status": "PENDING", "tries": batch.tries}
        with translated():
            await ScanBatchRecord.rows().update_one(same, [{"$set": update | {"tries": batch.tries + 1}}])
