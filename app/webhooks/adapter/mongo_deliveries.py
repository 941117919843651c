"""Deliveries in MongoDB: one row per event and webhook, held by leases on the database's clock (`$$NOW`)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError

from app.webhooks.domain.delivery import MOST_ATTEMPTS, Attempt, Delivery, Status, Verdict
from app.webhooks.domain.errors import WebhookNotFound
from core.clock import Clock
from core.mongo import NEWEST, NOW, Record, Row, change_one, find_one, get_one, later, page_of, to_row, translated
from core.paging import Page, Position
from core.relay import IS_DUE, KEPT_S, OPEN, claimed

DUPLICATE_KEY = 11000
_AGAIN: Row = {"$set": {"status": "PENDING", "tries": 0, "closed_at": None}, "$currentDate": {"next_attempt_at": True}}


class WebhookDeliveryRecord(Delivery, Record):
    class Settings:
        name = "deliveries"
        indexes: ClassVar = [
            IndexModel([("webhook_id", ASCENDING), *NEWEST], name="webhook_newest"),  # GET …/deliveries
            IndexModel(  # GET …/deliveries?status=, recover, exhaust
                [("webhook_id", ASCENDING), ("status", ASCENDING), *NEWEST], name="webhook_status"
            ),
            IndexModel(  # what is due, longest first; those of busy webhooks are passed over in the index
                [("next_attempt_at", ASCENDING), ("webhook_id", ASCENDING)], name="due",
                partialFilterExpression={"status": {"$in": list(OPEN)}},
            ),
            IndexModel([("closed_at", ASCENDING)], name="forget", expireAfterSeconds=KEPT_S),
        ]  # fmt: skip


class MongoDeliveries:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        try:
            with translated():
                await WebhookDeliveryRecord.rows().insert_many(map(to_row, deliveries), ordered=False)
        except BulkWriteError as cause:
            if any(error["code"] != DUPLICATE_KEY for error in cause.details["writeErrors"]):
                raise

    async def get(self, delivery_id: str, owner_id: str) -> Delivery:
        query = {"_id": delivery_id, "owner_id": owner_id}
        return await get_one(WebhookDeliveryRecord.rows(), query, Delivery, WebhookNotFound)

    async def list(self, webhook_id: str, status: Status | None, after: Position | None, limit: int) -> Page[Delivery]:
        asked = {"webhook_id": webhook_id, **({"status": status} if status else {})}
        return await page_of(WebhookDeliveryRecord.rows(), asked, after, limit, Delivery)

    async def reopen(self, delivery_id: str) -> Delivery:
        delivery = await change_one(WebhookDeliveryRecord.rows(), {"_id": delivery_id}, _AGAIN, Delivery)
        if delivery is None:  # forgotten meanwhile
            raise WebhookNotFound
        return delivery

    async def recover(self, webhook_id: str, since: datetime) -> int:
        failed = {
            "webhook_id": webhook_id, "status": {"$in": ["FAILED", "EXHAUSTED"]}, "created_at": {"$gte": since},
        }  # fmt: skip
        with translated():
            result = await WebhookDeliveryRecord.rows().update_many(failed, _AGAIN)
        return int(result.modified_count)

    async def exhaust(self, webhook_id: str) -> None:
        idle = {"$not": {"$gt": self._clock()}}
        left = {"webhook_id": webhook_id, "status": {"$in": list(OPEN)}, "locked_until": idle}
        closed = {"$set": {"status": "EXHAUSTED", "next_attempt_at": None}, "$currentDate": {"closed_at": True}}
        with translated():
            await WebhookDeliveryRecord.rows().update_many(left, closed)

    async def find_due(self, busy: Collection[str] = ()) -> Delivery | None:
        due = {**IS_DUE, "webhook_id": {"$nin": list(busy)}}
        return await find_one(WebhookDeliveryRecord.rows(), due, Delivery, sort=[("next_attempt_at", ASCENDING)])

    async def claim(self, delivery_id: str, token: str, *, lease_s: float) -> Delivery | None:
        due = {"_id": delivery_id, **IS_DUE}
        return await change_one(WebhookDeliveryRecord.rows(), due, claimed(token, lease_s), Delivery)

    async def close(self, delivery: Delivery, attempt: Attempt | None, verdict: Verdict) -> None:
        again = verdict.status == "FAILED"
        made = [] if attempt is None else [attempt.model_dump()]
        ended = {
            "status": verdict.status,
            "attempts": {"$slice": [{"$concatArrays": ["$attempts", {"$literal": made}]}, -MOST_ATTEMPTS]},
            "next_attempt_at": later(verdict.delay_s) if again else None,
            "closed_at": None if again else NOW,
            "token": None,
            "locked_until": None,
        }
        ours = {"_id": delivery.id, "status": {"$in": list(OPEN)}, "token": delivery.token}
        with translated():
            await WebhookDeliveryRecord.rows().update_one(ours, [{"$set": ended}])
