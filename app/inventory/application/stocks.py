"""What services do with the stock of one product."""

from collections.abc import Collection
from contextlib import suppress

from app.inventory.application.changes import Changes
from app.inventory.application.products import KnownProducts
from app.inventory.domain.errors import ProductArchived
from app.inventory.domain.ports import ProductSnapshots, Reservations, StockLedger
from app.inventory.domain.stock import Command, Kind, Movement, Stock
from core.errors import Unavailable
from core.paging import Page, Position


class StockService:
    def __init__(
        self, products: KnownProducts, stock: StockLedger, reservations: Reservations, snapshots: ProductSnapshots,
        changes: Changes,
    ) -> None:  # fmt: skip
        self._products, self._stock, self._reservations, self._snapshots = products, stock, reservations, snapshots
        self._changes = changes

    async def get(self, product_id: str) -> Stock:
        """Raises ProductNotFound, CatalogUnavailable or CatalogRefused, as everything here does."""
        product = await self._products.get(product_id)
        self._products.refresh_later(product)
        with suppress(Unavailable):  # whoever cannot write may read
            await self._reservations.expire_due([product_id])
        return Stock(await self._stock.get(product_id), product, self._products.stale)

    async def list(self, *, low: bool, after: Position | None, limit: int) -> Page[Stock]:
        levels = await self._stock.list(low=low, after=after, limit=limit)
        copies = await self._snapshots.find_all([level.id for level in levels.items])
        known = [(level, copies[level.id]) for level in levels.items if level.id in copies]
        return Page([Stock(level, copy, self._products.stale) for level, copy in known], levels.next)

    async def movements(self, product_id: str, after: Position | None, limit: int) -> Page[Movement]:
        await self._products.get(product_id)
        return await self._stock.movements(product_id, after, limit)

    async def move(self, product_id: str, kind: Kind, quantity: int, command: Command) -> Movement:
        """Raises ProductArchived (of a receipt) or InsufficientStock too."""

        async def act() -> Movement:
            if kind == "receive":
                if (await self._products.get_current(product_id)).status == "archived":
                    raise ProductArchived
            else:
                await self._products.get(product_id)
            return await self._changes.with_what_expired(
                [product_id], lambda: self._stock.move(product_id, kind, quantity, command)
            )

        return await self._changes.once(command, self._stock.find_effect, act)

    async def set_on_hand(
        self, product_id: str, quantity: int, command: Command, *, expected: int | None,
        versions: Collection[int] | None,
    ) -> Stock:  # fmt: skip
        """Raises StockChanged, InsufficientStock or PreconditionFailed too."""
        async with self._changes.turn():
            product = await self._products.get(product_id)
            level = await self._changes.with_what_expired(
                [product_id],
                lambda: self._stock.set_on_hand(product_id, quantity, command, expected=expected, versions=versions),
            )
        return Stock(level, product, self._products.stale)

    async def set_threshold(
        self, product_id: str, threshold: int, command: Command, *, versions: Collection[int] | None
    ) -> Stock:
        """Raises PreconditionFailed too."""
        async with self._changes.turn():
            product = await self._products.get(product_id)
            level = await self._stock.set_threshold(product_id, threshold, command, versions=versions)
        return Stock(level, product, self._products.stale)
