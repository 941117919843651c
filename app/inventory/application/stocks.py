"""What services do with the stock of one product."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import TypeVar

from app.inventory.application.products import KnownProducts
from app.inventory.domain.errors import CommandDone, InsufficientStock, ProductArchived
from app.inventory.domain.ports import ProductSnapshots, Reservations, StockLedger
from app.inventory.domain.stock import Command, Kind, Movement, Stock
from core.errors import Unavailable
from core.paging import Page, Position

T = TypeVar("T")


async def once(command: Command, find: Callable[[str], Awaitable[T | None]], act: Callable[[], Awaitable[T]]) -> T:
    """What the command did if it was run before. That is looked for ahead of any guard: it may have used all up."""
    if not command.repeatable:
        return await act()
    found = await find(command.id)
    if found is not None:
        return found
    try:
        return await act()
    except (InsufficientStock, CommandDone):
        found = await find(command.id)  # the first run may also end while this one is at work
        if found is None:
            raise
        return found


async def with_what_expired(
    reservations: Reservations, level_ids: Collection[str], act: Callable[[], Awaitable[T]]
) -> T:
    """Acts; where stock does not suffice, overdue reservations are ended and it is tried once more."""
    try:
        return await act()
    except InsufficientStock:
        if not await reservations.expire_due(level_ids):
            raise
    return await act()


class StockService:
    def __init__(
        self, products: KnownProducts, stock: StockLedger, reservations: Reservations, snapshots: ProductSnapshots
    ) -> None:
        self._products, self._stock, self._reservations, self._snapshots = products, stock, reservations, snapshots

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
            return await with_what_expired(
                self._reservations, [product_id], lambda: self._stock.move(product_id, kind, quantity, command)
            )

        return await once(command, self._stock.find_effect, act)

    async def set_on_hand(
        self,
        product_id: str,
        quantity: int,
        command: Command,
        *,
        expected: int | None,
        versions: Collection[int] | None,
    ) -> Stock:
        """Raises StockChanged, InsufficientStock or PreconditionFailed too."""
        product = await self._products.get(product_id)
        level = await with_what_expired(
            self._reservations,
            [product_id],
            lambda: self._stock.set_on_hand(product_id, quantity, command, expected=expected, versions=versions),
        )
        return Stock(level, product, self._products.stale)

    async def set_threshold(
        self, product_id: str, threshold: int, command: Command, *, versions: Collection[int] | None
    ) -> Stock:
        """Raises PreconditionFailed too."""
        product = await self._products.get(product_id)
        level = await self._stock.set_threshold(product_id, threshold, command, versions=versions)
        return Stock(level, product, self._products.stale)
