"""What other modules may know of products."""

from decimal import Decimal
from typing import Literal, Protocol

from core.paging import Page, Position
from core.values import Value

ProductStatus = Literal["active", "archived"]
CREATED, UPDATED, ARCHIVED = "product.created", "product.updated", "product.archived"  # data: the whole public view
PRODUCT_EVENTS = frozenset({CREATED, UPDATED, ARCHIVED})


class Price(Value):
    """Exact: as many decimals as the currency has."""

    amount: Decimal
    currency: str


class ProductView(Value):
    """A product as others see it; a higher version is a newer state."""

    product_id: str
    sku: str
    name: str
    price: Price | None
    status: ProductStatus
    version: int


class ProductViews(Protocol):
    """What inventory asks when products is in the same process. Implemented by products."""

    async def find_view(self, product_id: str) -> ProductView | None: ...

    async def list_views(self, after: Position | None, limit: int) -> Page[ProductView]: ...
