"""What other modules may know of products."""

from decimal import Decimal
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from core.paging import Page, Position

ProductStatus = Literal["active", "archived"]
CREATED, UPDATED, ARCHIVED = "product.created", "product.updated", "product.archived"  # data: the whole public view


class Price(BaseModel):
    """Exact: as many decimals as the currency has."""

    model_config = ConfigDict(frozen=True)

    amount: Decimal
    currency: str


class ProductView(BaseModel):
    """A product as others see it; a higher version is a newer state."""

    model_config = ConfigDict(frozen=True)

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
