"""The product catalogue in the same process."""

from collections.abc import AsyncIterator

from app.inventory.domain.errors import CatalogUnavailable
from app.products.contracts import ProductView, ProductViews
from core.errors import Unavailable
from core.paging import Page, Position

PAGE = 100


class LocalProductCatalog:
    """ProductCatalog over the products module. Views are copied, so that both adapters give equal things."""

    refresh_after_s = None
    is_down = False

    def __init__(self, products: ProductViews) -> None:
        self._products = products

    async def get(
        self, product_id: str, *, known: ProductView | None = None, quick: bool = False
    ) -> ProductView | None:
        try:
            view = await self._products.find_view(product_id)
        except Unavailable as cause:
            raise CatalogUnavailable from cause
        return view and _copied(view)

    async def walk(self) -> AsyncIterator[ProductView]:
        after: Position | None = None
        while True:
            page = await self._page(after)
            for view in page.items:
                yield _copied(view)
            if page.next is None:
                return
            after = page.next

    async def listen(self) -> None:
        """Nothing to be heard: it lives and dies with this process."""

    async def close(self) -> None:
        """Nothing is open."""

    async def _page(self, after: Position | None) -> Page[ProductView]:
        try:
            return await self._products.list_views(after, PAGE)
        except Unavailable as cause:
            raise CatalogUnavailable from cause


def _copied(view: ProductView) -> ProductView:
    return ProductView.model_validate(view.model_dump())
