"""Many products at once: each row makes a product or changes the one of its SKU, and fails by itself."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from app.products.application.service import EVERY
from app.products.domain.ports import Change, Copies, Products
from app.products.domain.product import Product, event_of, sku_key
from core.clock import Clock
from core.ids import new_id

BULK = 200

Outcome = Literal["created", "updated", "validation_failed", "duplicate_row", "product_archived", "precondition_failed"]
Fields = Mapping[str, Any]


class ProductImport:
    def __init__(self, products: Products, copies: Copies, clock: Clock) -> None:
        self._products, self._copies, self._clock = products, copies, clock

    async def run(self, actor: str, rows: Sequence[Fields | None]) -> Sequence[Outcome]:
        """What became of each row; None is one that cannot be used.

        Harmless when repeated: a row that changes nothing writes nothing, and counts as updated.
        """
        outcomes, keys = dict[int, Outcome](), dict[str, int]()
        for number, fields in enumerate(rows):
            if fields is None:
                outcomes[number] = "validation_failed"
            elif keys.setdefault(sku_key(fields["sku"]), number) != number:
                outcomes[number] = "duplicate_row"
        good = list(keys.items())
        for start in range(0, len(good), BULK):
            bulk = {key: (number, rows[number] or {}) for key, number in good[start : start + BULK]}
            outcomes |= await self._write(actor, bulk)
            lost = {key: row for key, row in bulk.items() if outcomes[row[0]] == "precondition_failed"}
            if lost:  # once more, on what the other writer has made of them
                outcomes |= await self._write(actor, lost)
        return [outcomes[number] for number in range(len(rows))]

    async def _write(self, actor: str, bulk: Mapping[str, tuple[int, Fields]]) -> dict[int, Outcome]:
        known = {sku_key(found.sku): found for found in await self._products.find_by_skus(list(bulk))}
        now, changes, outcomes = self._clock(), dict[int, Change](), dict[int, Outcome]()
        for key, (number, fields) in bulk.items():
            before = known.get(key)
            if before is not None and before.status == "archived":
                outcomes[number] = "product_archived"
                continue
            outcomes[number] = "updated" if before else "created"
            after = before.changed(fields, now) if before else _new(fields, now)
            if after is not before:
                changes[number] = Change(after, event_of(after, before, actor))
        if changes:
            try:
                lost = await self._products.write(list(changes.values()))
            finally:
                await self._copies.drop(EVERY)
            outcomes |= {number: "precondition_failed" for number, it in changes.items() if it.product.id in lost}
        return outcomes


def _new(fields: Fields, now: datetime) -> Product:
    return Product(id=new_id("prd"), created_at=now, updated_at=now, **fields)
