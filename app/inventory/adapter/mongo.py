"""Stock in MongoDB: the records with their indexes, and the copies of products. Changes of stock: mongo_stock.py."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from pydantic import BaseModel
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from app.inventory.domain.stock import Level, Movement, ProductSnapshot, Reservation
from app.products.contracts import ProductView
from core.idempotency import IdempotencyRecord
from core.mongo import READ_MS, Record, Row, to_model, translated
from core.paging import Page, Position
from core.relay import DeliveryRecord, OutboxRecord

M = TypeVar("M", bound=BaseModel)

COUNTS = ("on_hand", "reserved", "available", "seq", "version", "threshold")
# A write that forgets the guard, breaks the identity or stores a double fails with code 121 and spoils nothing.
LEVEL_VALIDATOR: Row = {
    "$jsonSchema": {
        "required": list(COUNTS),
        "properties": {name: {"bsonType": ["int", "long"], "minimum": 0} for name in COUNTS},
    },
    "$expr": {"$eq": ["$on_hand", {"$add": ["$reserved", "$available"]}]},
}
ACTIVE = {"status": "active"}
_NO_DATE = datetime.fromtimestamp(0, UTC)  # these lists are ordered by _id alone


class LevelRecord(Level, Record):
    class Settings:
        name = "stock_levels"
        validator = LEVEL_VALIDATOR
        indexes: ClassVar = [
            IndexModel(  # GET /inventory?low=true
                [("low", ASCENDING), ("_id", DESCENDING)], name="low", partialFilterExpression={"low": True}
            )
        ]


class MovementRecord(Movement, Record):
    class Settings:
        name = "stock_movements"
        indexes: ClassVar = [
            IndexModel(  # a command takes effect once
                [("command_id", ASCENDING), ("level_id", ASCENDING), ("kind", ASCENDING)], name="command", unique=True
            )
        ]


class ReservationRecord(Reservation, Record):
    """No TTL index: it would delete the reservation and leave its quantity reserved for ever."""

    class Settings:
        name = "reservations"
        indexes: ClassVar = [
            IndexModel([("command_id", ASCENDING)], name="command", unique=True),  # a command reserves once
            IndexModel([("expires_at", ASCENDING)], name="due", partialFilterExpression=ACTIVE),  # the sweeper
            IndexModel(  # what is overdue, or still active, of one level
                [("lines.level_id", ASCENDING), ("expires_at", ASCENDING)],
                name="level_due",
                partialFilterExpression=ACTIVE,
            ),
        ]


class SnapshotRecord(ProductSnapshot, Record):
    class Settings:
        name = "product_snapshots"


class StockOutboxRecord(OutboxRecord):
    """Events of stock, one row per transaction."""


class StockDeliveryRecord(DeliveryRecord):
    """Events of stock, one row per subscriber."""


class StockKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


RECORDS = (
    LevelRecord, MovementRecord, ReservationRecord, SnapshotRecord,
    StockOutboxRecord, StockDeliveryRecord, StockKeyRecord,
)  # fmt: skip


async def page_by_id(rows: AsyncCollection[Row], query: Row, limit: int, model: type[M]) -> Page[M]:
    """One page, the highest `_id` first."""
    with translated():
        cursor = rows.find(query).sort([("_id", DESCENDING)]).limit(limit + 1)
        found = await cursor.max_time_ms(READ_MS).to_list()
    items = [to_model(model, row) for row in found[:limit]]
    return Page(items, Position(_NO_DATE, found[limit - 1]["_id"]) if len(found) > limit else None)


class MongoProductSnapshots:
    async def find(self, product_id: str) -> ProductSnapshot | None:
        return (await self.find_all([product_id])).get(product_id)

    async def find_all(self, product_ids: Sequence[str]) -> Mapping[str, ProductSnapshot]:
        asked = {"_id": {"$in": list(product_ids)}}
        with translated():
            found = await SnapshotRecord.rows().find(asked).max_time_ms(READ_MS).to_list()
        return {row["_id"]: _snapshot(row) for row in found}

    async def put(self, view: ProductView, as_of: datetime) -> ProductSnapshot:
        rows = SnapshotRecord.rows()
        # Amounts stay text, as exact as they came.
        content = ProductView.model_dump(view, mode="json", include=set(ProductView.model_fields) - {"product_id"})
        kept: Row = {name: {"$literal": value} for name, value in content.items()}
        kept |= {"as_of": {"$max": ["$as_of", as_of]}, "rev": {"$add": [{"$ifNull": ["$rev", 0]}, 1]}}
        try:
            with translated():
                row = await rows.find_one_and_update(
                    {"_id": view.product_id, "version": {"$lte": view.version}},
                    [{"$set": kept}],
                    upsert=True,
                    return_document=ReturnDocument.AFTER,
                )
        except DuplicateKeyError:  # what is there is newer
            with translated():
                row = await rows.find_one({"_id": view.product_id})
        assert row is not None, "copies are never removed"
        return _snapshot(row)

    async def any(self) -> bool:
        with translated():
            return await SnapshotRecord.rows().find_one({}, {"_id": 1}) is not None


def _snapshot(row: Row) -> ProductSnapshot:
    return ProductSnapshot.model_validate({**row, "product_id": row["_id"]})
