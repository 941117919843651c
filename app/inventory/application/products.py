"""What inventory knows of products: copies, asked for or told of by events, that do while products is away."""

import asyncio
from contextlib import suppress
from datetime import timedelta

from app.inventory.domain.errors import CatalogRefused, CatalogUnavailable, ProductNotFound
from app.inventory.domain.ports import ProductCatalog, ProductSnapshots, StockLedger
from app.inventory.domain.stock import PRODUCT_ID, ProductSnapshot
from app.products.contracts import ProductView
from core.clock import Clock
from core.errors import AppError
from core.events import OutboxEvent

MOST_REFRESHING = 100


class KnownProducts:
    """A level is made before its product is known, so whoever knows the product finds the level."""

    def __init__(self, catalog: ProductCatalog, snapshots: ProductSnapshots, stock: StockLedger, clock: Clock) -> None:
        self._catalog, self._snapshots, self._stock, self._clock = catalog, snapshots, stock, clock
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    @property
    def stale(self) -> bool:
        return self._catalog.is_down

    async def get(self, product_id: str) -> ProductSnapshot:
        """The copy, if there is one. Raises ProductNotFound; CatalogUnavailable or CatalogRefused if there is none."""
        return await self._find(product_id) or await self._ask(product_id)

    async def get_current(self, product_id: str) -> ProductSnapshot:
        """As products has it now, as far as they can be asked. Raises as `get` does."""
        copy = await self._find(product_id)
        if copy is None:
            return await self._ask(product_id)
        try:
            view = await self._catalog.get(product_id, known=copy, quick=True)
        except (CatalogUnavailable, CatalogRefused):
            return copy
        if view is None:
            raise ProductNotFound
        return await self._keep(view) if view.version > copy.version or self._is_old(copy) else copy

    def refresh_later(self, copy: ProductSnapshot) -> None:
        """For the next reader; nobody waits for it."""
        product_id = copy.product_id
        if self._is_old(copy) and product_id not in self._refreshing and len(self._refreshing) < MOST_REFRESHING:
            task = self._refreshing[product_id] = asyncio.create_task(self._refresh(copy))
            task.add_done_callback(lambda _: self._refreshing.pop(product_id))

    async def handle(self, event: OutboxEvent) -> None:
        """An event of products; its data is the whole product."""
        await self._keep(ProductView.model_validate(event.data), event)

    async def walk(self) -> None:
        """Copies of all products, for what no event has told."""
        async for view in self._catalog.walk():
            await self._keep(view)

    async def walk_at_first(self) -> None:
        if not await self._snapshots.any():
            await self.walk()

    async def close(self) -> None:
        for task in (tasks := list(self._refreshing.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, product_id: str) -> ProductSnapshot | None:
        if not PRODUCT_ID.fullmatch(product_id):
            raise ProductNotFound
        return await self._snapshots.find(product_id)

    async def _ask(self, product_id: str) -> ProductSnapshot:
        view = await self._catalog.get(product_id)
        if view is None:
            raise ProductNotFound
        return await self._keep(view)

    async def _refresh(self, copy: ProductSnapshot) -> None:
        with suppress(AppError):  # the copy is what there is
            view = await self._catalog.get(copy.product_id, known=copy)
            if view is not None:
                await self._keep(view)

    async def _keep(self, view: ProductView, event: OutboxEvent | None = None) -> ProductSnapshot:
        await self._stock.add(view.product_id)
        return await self._snapshots.put(view, event.at if event else self._clock())

    def _is_old(self, copy: ProductSnapshot) -> bool:
        after_s = self._catalog.refresh_after_s
        return after_s is not None and copy.as_of < self._clock() - timedelta(seconds=after_s)
