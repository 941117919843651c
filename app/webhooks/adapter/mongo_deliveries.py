"""Deliveries in MongoDB: one row per event and webhook, held by leases on the database's clock (`$$NOW`)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import BulkWriteError

from app.webhooks.domain.delivery import MOST_ATTEMPTS, Attempt, Delivery, Status, Verdict
from app.webhooks.domain.errors import WebhookNotFound
from core.clock import Clock
from core.mongo import Record, Row, page_of, to_model, translated
from core.paging import Page, Position
from core.relay import IS_DUE, KEPT_S, NOW, OPEN, claimed

DUPLICATE_KEY = 11000
_NEWEST = [("created_at", DESCENDING), ("_id", DESCENDING)]
_AGAIN: Row = {
    "$set": {"status": "PENDING", "tries": 0, "closed_at": None},
    "$currentDate": {"next_attempt_at": True},
}


class WebhookDeliveryRecord(Delivery, Record):
    class Settings:
        name = "deliveries"
        indexes: ClassVar = [
            IndexModel([("webhook_id", ASCENDING), *_NEWEST], name="webhook_newest"),  # GET …/deliveries
            IndexModel(  # GET …/deliveries?status=, recover, exhaust
                [("webhook_id", ASCENDING), ("status", ASCENDING), *_NEWEST], name="webhook_status"
            ),
            IndexModel(  # what is due, longest first; those of busy webhooks are passed over in the index
                [("next_attempt_at", ASCENDING), ("webhook_id", ASCENDING)], name="due",
                partialFilterExpression={"status": {"$in": list(OPEN)}},
            ),
            IndexModel([("closed_at", ASCENDING)], name="forget", expireAfterSeconds=KEPT_S),
        ]  # fmt: skip


class MongoDeliveries:
    """Deliveries in the collection `deliveries`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        rows = [{"_id": delivery.id, **delivery.model_dump(exclude={"id"})} for delivery in deliveries]
        try:
            with translated():
                await self._rows.insert_many(rows, ordered=False)
        except BulkWriteError as cause:
            if any(error["code"] != DUPLICATE_KEY for error in cause.details["writeErrors"]):
                raise

    async def get(self, delivery_id: str, owner_id: str) -> Delivery:
        with translated():
            row = await self._rows.find_one({"_id": delivery_id, "owner_id": owner_id})
        if row is None:
            raise WebhookNotFound
        return to_model(Delivery, row)

    async def list(self, webhook_id: str, status: Status | None, after: Position | None, limit: int) -> Page[Delivery]:
        asked = {"webhook_id": webhook_id, **({"status": status} if status else {})}
        return await page_of(self._rows, asked, after, limit, Delivery)

    async def reopen(self, delivery_id: str) -> Delivery:
        with translated():
            row = await self._rows.find_one_and_update(
                {"_id": delivery_id}, _AGAIN, return_document=ReturnDocument.AFTER
            )
        if row is None:  # forgotten meanwhile
            raise WebhookNotFound
        return to_model(Delivery, row)

    async def recover(self, webhook_id: str, since: datetime) -> int:
        failed = {
            "webhook_id": webhook_id, "status": {"$in": ["FAILED", "EXHAUSTED"]}, "created_at": {"$gte": since},
        }  # fmt: skip
        with translated():
            result = await self._rows.update_many(failed, _AGAIN)
        return int(result.modified_count)

    async def exhaust(self, webhook_id: str) -> None:
        idle = {"$not": {"$gt": self._clock()}}
        left = {"webhook_id": webhook_id, "status": {"$in": list(OPEN)}, "locked_until": idle}
        closed = {"$set": {"status": "EXHAUSTED", "next_attempt_at": None}, "$currentDate": {"closed_at": True}}
        with translated():
            await self._rows.update_many(left, closed)

    async def find_due(self, busy: Collection[str] = ()) -> Delivery | None:
        with translated():
            row = await self._rows.find_one(
                {**IS_DUE, "webhook_id": {"$nin": list(busy)}}, sort=[("next_attempt_at", ASCENDING)]
            )
        return None if row is None else to_model(Delivery, row)

    async def claim(self, delivery_id: str, token: str, *, lease_s: float) -> Delivery | None:
        with translated():
            row = await self._rows.find_one_and_update(
                {"_id": delivery_id, **IS_DUE}, claimed(token, lease_s), return_document=ReturnDocument.AFTER
            )
        return None if row is None else to_model(Delivery, row)

    async def close(self, delivery: Delivery, attempt: Attempt | None, verdict: Verdict) -> None:
        again = verdict.status == "FAILED"
        made = [] if attempt is None else [attempt.model_dump()]
        ended = {
            "status": verdict.status,
            "attempts": {"$slice": [{"$concatArrays": ["$attempts", {"$literal": made}]}, -MOST_ATTEMPTS]},
            "next_attempt_at": {"$add": [NOW, round(verdict.delay_s * 1000)]} if again else None,
            "closed_at": None if again else NOW,
            "token": None,
            "locked_until": None,
        }
        ours = {"_id": delivery.id, "status": {"$in": list(OPEN)}, "token": delivery.token}
        with translated():
            await self._rows.update_one(ours, [{"$set": ended}])

    @property
    def _rows(self) -> Any:
        return WebhookDeliveryRecord.get_pymongo_collection()
