"""A product: what is sold, under which SKU, at which price."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.products.contracts import ARCHIVED, CREATED, UPDATED, Price, ProductStatus, ProductView
from core.events import OutboxEvent, event_id
from core.values import Value

MAX_TERMS = 64


class Product(Value):
    """`version` counts changes; it is what If-Match compares, and the `seq` of the event that tells of it."""

    id: str
    sku: str
    name: str
    description: str | None = None
    price: Price | None = None
    tags: tuple[str, ...] = ()
    status: ProductStatus = "active"
    version: int = 1
    created_at: datetime
    updated_at: datetime

    def changed(self, fields: Mapping[str, Any], at: datetime) -> "Product":
        """The next version; this one where nothing would be different."""
        after = self.model_copy(update=fields)
        return self if after == self else after.model_copy(update={"version": self.version + 1, "updated_at": at})

    def view(self) -> ProductView:
        return ProductView(
            product_id=self.id, sku=self.sku, name=self.name, price=self.price, status=self.status, version=self.version
        )


def sku_key(sku: str) -> str:
    """What two spellings of one SKU have in common: neither case nor width tells them apart."""
    return _nfkc(_nfkc(sku).strip().casefold())


def words_of(text: str) -> list[str]:
    """Its distinct words as they are compared, in order."""
    return list(dict.fromkeys(re.findall(r"\w+", _nfkc(_nfkc(text).casefold()))))


def terms_of(product: Product) -> list[str]:
    """Where `q` looks."""
    return words_of(" ".join((product.sku, product.name, *product.tags)))[:MAX_TERMS]


def event_of(product: Product, before: Product | None, actor: str) -> OutboxEvent:
    """What `actor` did to it; the data are the whole public view."""
    kind = UPDATED if before else CREATED
    if before and before.status == "active" and product.status == "archived":
        kind = ARCHIVED
    return OutboxEvent(
        event_id=event_id(product.id, product.version),
        seq=product.version,
        type=kind,
        at=product.updated_at,
        owner_id=actor,
        data={"product_id": product.id, **product.model_dump(mode="json", exclude={"id"})},
    )


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
