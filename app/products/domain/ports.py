"""What the products module needs from the world."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import BaseModel

from app.products.contracts import ProductStatus
from app.products.domain.product import Product
from core.events import OutboxEvent
from core.paging import Page, Position

M = TypeVar("M", bound=BaseModel)
Name = tuple[str, ...]


@dataclass(frozen=True)
class Filters:
    """All that are given must fit; `q`: each of its words begins a word of the product."""

    sku: str | None = None
    q: str | None = None
    status: ProductStatus | None = None


@dataclass(frozen=True)
class Change:
    """A product as it is to be, and the event of the same write. Version 1 is new, others follow the one before."""

    product: Product
    event: OutboxEvent


class Products(Protocol):
    async def add(self, change: Change) -> Product:
        """The stored one, which another run of the same command may have made. Raises SkuTaken."""

    async def get(self, product_id: str) -> Product:
        """Raises ProductNotFound."""

    async def find_by_skus(self, keys: Collection[str]) -> Sequence[Product]:
        """Those whose `sku_key` is among them."""

    async def list(self, filters: Filters, after: Position | None, limit: int) -> Page[Product]: ...

    async def replace(self, change: Change) -> None:
        """Stores it where the version before it still stands. Raises SkuTaken, PreconditionFailed."""

    async def write(self, changes: Sequence[Change]) -> Collection[str]:
        """Many at once, each by itself; the ids of those that met another writer and were not stored."""


class Copies(Protocol):
    """Copies of what the database says, which a change takes away. They may be lost at any time."""

    async def get(self, model: type[M], name: Name, tags: Sequence[Name], load: Callable[[], Awaitable[M]]) -> M:
        """The copy of this name, or what `load` reads, of which one is kept until one of its tags is dropped."""

    async def drop(self, *tags: Name) -> None:
        """To be called after every change, also where nobody knows whether it took effect."""
