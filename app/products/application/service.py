"""What services do with products."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from app.products.contracts import ProductView
from app.products.domain.errors import ProductNotFound
from app.products.domain.ports import Change, Copies, Filters, Name, Products
from app.products.domain.product import Product, event_of, sku_key
from core.clock import Clock
from core.errors import PreconditionFailed
from core.events import Announcements
from core.ids import id_for
from core.paging import Page, Position

TRIES = 5
EVERY: Name = ("products",)  # the tag of all copies


class _Found(BaseModel):
    products: tuple[Product, ...]


class ProductService:
    def __init__(self, products: Products, copies: Copies, announcements: Announcements, clock: Clock) -> None:
        self._products, self._copies, self._announcements, self._clock = products, copies, announcements, clock

    async def create(self, actor: str, fields: dict[str, Any], command_id: str | None = None) -> Product:
        """Raises SkuTaken."""
        now = self._clock()
        product = Product(id=id_for("prd", command_id), created_at=now, updated_at=now, **fields)
        try:
            stored = await self._products.add(Change(product, event_of(product, None, actor)))
        finally:
            await self._copies.drop(*_tags_of(product))
        await self._announcements.run_for(product.id)
        return stored

    async def read(self, product_id: str) -> Product:
        """As it was at most a moment ago. Raises ProductNotFound."""
        name = ("product", product_id)
        return await self._copies.get(Product, name, (name, EVERY), lambda: self._products.get(product_id))

    async def list(self, filters: Filters, after: Position | None, limit: int) -> Page[Product]:
        if filters.sku is None or filters != Filters(sku=filters.sku) or after is not None:
            return await self._products.list(filters, after, limit)
        key = sku_key(filters.sku)

        async def look_up() -> _Found:
            return _Found(products=tuple(await self._products.find_by_skus([key])))

        found = await self._copies.get(_Found, ("sku", key), (("sku", key), EVERY), look_up)
        return Page(found.products, None)

    async def change(
        self, actor: str, product_id: str, fields: dict[str, Any], demand: Callable[[Product], None]
    ) -> Product:
        """What is absent from `fields` stays. `demand` may refuse the state that was read; that one is replaced.

        Raises ProductNotFound, SkuTaken, PreconditionFailed and what `demand` raises.
        """
        for _ in range(TRIES):
            before = await self._products.get(product_id)
            demand(before)
            after = before.changed(fields, self._clock())
            if after is before:
                return before
            try:
                await self._products.replace(Change(after, event_of(after, before, actor)))
            except PreconditionFailed:  # another writer was first: what does `demand` say of his state?
                continue
            finally:
                await self._copies.drop(*_tags_of(before), *_tags_of(after))
            await self._announcements.run_for(product_id)
            return after
        raise PreconditionFailed

    async def archive(self, actor: str, product_id: str, demand: Callable[[Product], None]) -> None:
        """Raises ProductNotFound, PreconditionFailed and what `demand` raises."""
        await self.change(actor, product_id, {"status": "archived"}, demand)

    async def find_view(self, product_id: str) -> ProductView | None:
        """For other modules (ProductViews): what is so now, never a copy."""
        try:
            return (await self._products.get(product_id)).view()
        except ProductNotFound:
            return None

    async def list_views(self, after: Position | None, limit: int) -> Page[ProductView]:
        """For other modules (ProductViews)."""
        page = await self._products.list(Filters(), after, limit)
        return Page([product.view() for product in page.items], page.next)


def _tags_of(product: Product) -> tuple[Name, Name]:
    """What to drop when it changes."""
    return ("product", product.id), ("sku", sku_key(product.sku))
