"""Products in MongoDB: one conditional write per change, its event inside."""

import re
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from bson import Decimal128
from pydantic import field_validator
from pymongo import ASCENDING, IndexModel, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from app.products.domain.errors import ProductNotFound, SkuTaken
from app.products.domain.ports import Change, Filters
from app.products.domain.product import Product, sku_key, terms_of, words_of
from core.errors import PreconditionFailed
from core.events import OutboxEvent
from core.idempotency import IdempotencyRecord
from core.mongo import NEWEST, Record, Row, get_one, page_of, to_model, translated
from core.paging import Page, Position
from core.relay import OUTBOX_INDEX, DeliveryRecord

_DUPLICATE = 11000


class StoredProduct(Product):
    """A product as it is read: its amount is a Decimal128, which keeps all decimals."""

    @field_validator("price", mode="before")
    @classmethod
    def _exact(cls, price: Any) -> Any:
        return {**price, "amount": price["amount"].to_decimal()} if isinstance(price, dict) else price


class ProductRecord(StoredProduct, Record):
    """`sku_norm` and `terms` are what is compared instead of what was entered."""

    sku_norm: str
    terms: list[str]
    outbox: tuple[OutboxEvent, ...]

    class Settings:
        name = "products"
        indexes: ClassVar = [
            IndexModel([("sku_norm", ASCENDING)], name="sku_norm", unique=True),  # an archived product keeps its SKU
            IndexModel(NEWEST, name="newest"),  # GET /products
            IndexModel([("status", ASCENDING), *NEWEST], name="status_newest"),  # GET /products?status=
            IndexModel([("terms", ASCENDING), *NEWEST], name="terms_newest"),  # GET /products?q=
            OUTBOX_INDEX,
        ]


class ProductDeliveryRecord(DeliveryRecord):
    """Events of products, one row per subscriber."""


class ProductKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


RECORDS = (ProductRecord, ProductDeliveryRecord, ProductKeyRecord)


class MongoProducts:
    async def add(self, change: Change) -> Product:
        try:
            with translated():
                await ProductRecord.rows().insert_one(_new_row(change))
        except DuplicateKeyError as cause:
            try:
                return await self.get(change.product.id)
            except ProductNotFound:
                raise SkuTaken from cause
        return change.product

    async def get(self, product_id: str) -> Product:
        return await get_one(ProductRecord.rows(), {"_id": product_id}, StoredProduct, ProductNotFound)

    async def find_by_skus(self, keys: Collection[str]) -> Sequence[Product]:
        with translated():
            rows = await ProductRecord.rows().find({"sku_norm": {"$in": list(keys)}}).to_list()
        return [to_model(StoredProduct, row) for row in rows]

    async def list(self, filters: Filters, after: Position | None, limit: int) -> Page[Product]:
        query: Row = {}
        if filters.sku is not None:
            query["sku_norm"] = sku_key(filters.sku)
        if filters.status is not None:
            query["status"] = filters.status
        if words := words_of(filters.q or ""):
            query["$and"] = [{"terms": {"$regex": f"^{re.escape(word)}"}} for word in words]
        page = await page_of(ProductRecord.rows(), query, after, limit, StoredProduct)
        return Page(page.items, page.next)

    async def replace(self, change: Change) -> None:
        query, update = _update(change)
        try:
            with translated():
                result = await ProductRecord.rows().update_one(query, update)
        except DuplicateKeyError as cause:
            raise SkuTaken from cause
        if not result.matched_count:
            raise PreconditionFailed

    async def write(self, changes: Sequence[Change]) -> Collection[str]:
        operations: list[InsertOne[Row] | UpdateOne] = [
            InsertOne(_new_row(change)) if change.product.version == 1 else UpdateOne(*_update(change))
            for change in changes
        ]
        try:
            with translated():
                result = await ProductRecord.rows().bulk_write(operations, ordered=False)
            stored = result.inserted_count + result.matched_count
        except BulkWriteError as error:
            if any(problem["code"] != _DUPLICATE for problem in error.details["writeErrors"]):
                raise
            stored = -1
        return () if stored == len(changes) else await self._lost(changes)

    async def _lost(self, changes: Sequence[Change]) -> Collection[str]:
        """An update that matched nothing is not named in the answer: who is there tells."""
        expected = {change.product.id: change.product for change in changes}
        with translated():
            rows = await ProductRecord.rows().find({"_id": {"$in": list(expected)}}).to_list()
        stored = {
            row["_id"] for row in rows if expected[row["_id"]].model_dump() == to_model(StoredProduct, row).model_dump()
        }
        return expected.keys() - stored


def _content(product: Product) -> Row:
    """Everything that a change may touch."""
    row = product.model_dump(exclude={"id", "created_at"})
    if product.price is not None:
        row["price"]["amount"] = Decimal128(product.price.amount)
    return {**row, "sku_norm": sku_key(product.sku), "terms": terms_of(product)}


def _new_row(change: Change) -> Row:
    product = change.product
    outbox = [change.event.model_dump()]
    return {"_id": product.id, "created_at": product.created_at, **_content(product), "outbox": outbox}


def _update(change: Change) -> tuple[Row, Row]:
    product = change.product
    query = {"_id": product.id, "version": product.version - 1}
    return query, {"$set": _content(product), "$push": {"outbox": change.event.model_dump()}}
