"""JSON of products."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from app.products.contracts import Price, ProductStatus
from app.products.domain.money import DECIMALS, exact
from app.products.domain.product import Product
from core.http.routes import Body

LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"

Sku = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=LINE),
    Field(examples=["AB-100"], description="Unique, compared without case and width"),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=LINE),
    Field(examples=["Hammer"]),
]
Description = Annotated[str, StringConstraints(max_length=5000, pattern=r"^[^\x00]*$")]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=LINE)]
Tags = Annotated[list[Tag], Field(max_length=20, examples=[["tools"]])]


class PriceBody(Body):
    """A string, so that nobody's floating point touches it."""

    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["EUR"], description="An active code of ISO 4217")
    amount: str = Field(
        pattern=r"^[0-9]{1,15}(\.[0-9]+)?$",
        examples=["12.50"],
        description="At most as many decimals as the currency has; fewer are filled up",
    )

    @field_validator("currency")
    @classmethod
    def _is_active(cls, currency: str) -> str:
        if currency not in DECIMALS:
            raise ValueError
        return currency

    @field_validator("amount")
    @classmethod
    def _is_exact(cls, amount: str, info: ValidationInfo) -> str:
        if "currency" in info.data:  # else that is what is wrong
            exact(amount, info.data["currency"])
        return amount

    def price(self) -> Price:
        return Price(amount=exact(self.amount, self.currency), currency=self.currency)


class _Fields(Body):
    """What was sent of a product; what was not is not in `fields`."""

    price: PriceBody | None = None
    description: Description | None = None

    def fields(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if self.price is not None:
            given["price"] = self.price.price()
        if "tags" in given:
            given["tags"] = tuple(given["tags"])
        return given


class ProductCreate(_Fields):
    sku: Sku
    name: Name
    tags: Tags = Field(default_factory=list)


class ProductUpdate(_Fields):
    """What is absent stays as it is; null clears description and price. `status` brings a product back, too."""

    sku: Sku | None = None
    name: Name | None = None
    tags: Tags | None = None
    status: ProductStatus | None = None

    @model_validator(mode="after")
    def _no_null(self) -> "ProductUpdate":
        if any(getattr(self, name) is None for name in self.model_fields_set - {"description", "price"}):
            raise ValueError("only description and price may be null")
        return self


class ProductRead(BaseModel):
    product_id: str = Field(examples=["prd_01kd4v8w3zj5n9q2r7t6x1y0ab"])
    sku: str
    name: str
    description: str | None
    price: Price | None
    tags: list[str]
    status: ProductStatus
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, product: Product) -> "ProductRead":
        return cls(product_id=product.id, **product.model_dump(exclude={"id"}))


class RowError(BaseModel):
    row: int = Field(description="The first data row is 1")
    code: str = Field(examples=["validation_failed"])


class ImportRead(BaseModel):
    """`created + updated + failed` = rows; one that changes nothing counts as updated."""

    created: int
    updated: int
    failed: int
    errors: list[RowError]
