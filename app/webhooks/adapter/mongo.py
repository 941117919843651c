"""Webhooks in MongoDB. What deliveries keep in them is decided on the database's clock (`$$NOW`)."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, ReturnDocument

from app.webhooks.adapter.mongo_deliveries import WebhookDeliveryRecord
from app.webhooks.domain.delivery import Verdict
from app.webhooks.domain.errors import TooManyWebhooks, WebhookNotFound
from app.webhooks.domain.webhook import DEGRADED_AFTER, DEGRADED_PAUSE_S, DISABLED_AFTER, IN_FLIGHT, Webhook
from core.errors import PreconditionFailed
from core.idempotency import IdempotencyRecord
from core.mongo import NEWEST, NOW, Record, Row, change_one, get_one, insert_new, later, page_of, to_model, translated
from core.paging import Page, Position

TAKEN = {"$filter": {"input": "$slots", "cond": {"$gt": ["$$this.until", NOW]}}}


class WebhookRecord(Webhook, Record):
    class Settings:
        name = "webhooks"
        indexes: ClassVar = [
            IndexModel([("owner_id", ASCENDING), *NEWEST], name="owner_newest"),  # GET /webhooks
            IndexModel([("owner_id", ASCENDING), ("events", ASCENDING)], name="owner_events"),  # who is to be told
        ]


class WebhookKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


RECORDS = (WebhookRecord, WebhookDeliveryRecord, WebhookKeyRecord)


class MongoWebhooks:
    async def add(self, webhook: Webhook, *, most: int) -> Webhook:
        others = {"owner_id": webhook.owner_id, "_id": {"$ne": webhook.id}}
        with translated():
            # Two at a time may make one more: the limit bounds what an event costs, and promises nothing.
            if await WebhookRecord.rows().count_documents(others, limit=most) == most:
                raise TooManyWebhooks
        is_new = await insert_new(WebhookRecord.rows(), webhook)
        return webhook if is_new else await self.get(webhook.id, webhook.owner_id)

    async def get(self, webhook_id: str, owner_id: str) -> Webhook:
        return await get_one(WebhookRecord.rows(), {"_id": webhook_id, "owner_id": owner_id}, Webhook, WebhookNotFound)

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Webhook]:
        return await page_of(WebhookRecord.rows(), {"owner_id": owner_id}, after, limit, Webhook)

    async def change(self, webhook: Webhook, fields: dict[str, Any]) -> Webhook:
        known = {"_id": webhook.id, "owner_id": webhook.owner_id, "version": webhook.version}
        changed = Webhook.model_validate({**webhook.model_dump(), **fields})
        change = {"$set": changed.model_dump(include=set(fields)), "$inc": {"version": 1}}
        stored = await change_one(WebhookRecord.rows(), known, change, Webhook)
        if stored is None:
            raise PreconditionFailed
        return stored

    async def remove(self, webhook: Webhook) -> bool:
        same = {"_id": webhook.id, **webhook.model_dump(include={"owner_id", "version", "status"})}
        with translated():
            result = await WebhookRecord.rows().delete_one(same)
        return bool(result.deleted_count)

    async def subscribed(self, owner_id: str, event_type: str) -> Sequence[str]:
        wanted = {"owner_id": owner_id, "events": event_type, "status": {"$ne": "disabled"}}
        with translated():
            return [row["_id"] for row in await WebhookRecord.rows().find(wanted, {"_id": 1}).to_list()]

    async def sealed_before(self, mark: str) -> Sequence[Webhook]:
        older = {"sealed": {"$not": re.compile("^" + re.escape(mark))}}
        with translated():
            rows = await WebhookRecord.rows().find({"secrets": {"$elemMatch": older}}).to_list()
        return [to_model(Webhook, row) for row in rows]

    async def enter(self, webhook_id: str, token: str, *, lease_s: float) -> Webhook | None:
        called = {"_id": webhook_id, "status": {"$ne": "disabled"}}
        most = {"$cond": [{"$eq": ["$status", "degraded"]}, 1, IN_FLIGHT]}
        has_place = {"$and": [{"$lt": [{"$size": TAKEN}, most]}, {"$lte": ["$paused_until", NOW]}]}
        slot = {"token": token, "until": later(lease_s)}
        entered = [{"$set": {"slots": {"$concatArrays": [TAKEN, [slot]]}}}]
        webhook = await change_one(WebhookRecord.rows(), {**called, "$expr": has_place}, entered, Webhook)
        if webhook is None:
            await get_one(WebhookRecord.rows(), called, Webhook, WebhookNotFound)
        return webhook

    async def leave(self, webhook_id: str, token: str, verdict: Verdict | None = None) -> bool:
        left: Row = {"slots": {"$filter": {"input": "$slots", "cond": {"$ne": ["$$this.token", token]}}}}
        stages = [{"$set": left}]
        if verdict is not None and verdict.status == "DELIVERED":
            stages = [{"$set": {**left, "failures": 0, "failing_since": None, "paused_until": None}}, _STATUS]
        elif verdict is not None:
            failed = {"failures": {"$add": ["$failures", 1]}, "failing_since": {"$ifNull": ["$failing_since", NOW]}}
            stages = [{"$set": {**left, **failed}}, _STATUS]
            pause = later(min(verdict.delay_s, DEGRADED_PAUSE_S))
            is_degraded = {"$eq": ["$status", "degraded"]}
            stages.append({"$set": {"paused_until": {"$cond": [is_degraded, pause, None]}}})
            if verdict.ends_webhook:
                stages.append({"$set": {"status": "disabled"}})
        with translated():
            row = await WebhookRecord.rows().find_one_and_update(
                {"_id": webhook_id}, stages, {"status": 1}, return_document=ReturnDocument.AFTER
            )
        return row is not None and row["status"] != "disabled"


_TOO_LONG = {"$lte": ["$failing_since", later(-DISABLED_AFTER.total_seconds())]}
_STATUS: Row = {"$set": {"status": {"$switch": {
    "branches": [
        {"case": {"$eq": ["$status", "disabled"]}, "then": "disabled"},
        {"case": {"$and": [{"$gt": ["$failures", 0]}, _TOO_LONG]}, "then": "disabled"},
        {"case": {"$gte": ["$failures", DEGRADED_AFTER]}, "then": "degraded"},
    ],
    "default": "active",
}}}}  # fmt: skip
