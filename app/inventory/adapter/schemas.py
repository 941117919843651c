"""JSON of stock."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints

from app.inventory.domain.stock import (
    MAX_LINES,
    MAX_QUANTITY,
    MAX_TTL_S,
    TTL_S,
    Kind,
    Movement,
    Reservation,
    ReservationStatus,
    Stock,
)
from app.products.contracts import Price, ProductStatus
from core.http.routes import Body

Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY, examples=[5])]
Count = Annotated[int, Field(ge=0, le=MAX_QUANTITY, examples=[40])]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class MovementCreate(Body):
    kind: Literal["receive", "issue", "adjust"]
    quantity: int = Field(
        ge=-MAX_QUANTITY, le=MAX_QUANTITY, examples=[5], description="With `adjust` signed and not 0, else at least 1"
    )
    reason: Text | None = Field(default=None, examples=["count of January"])
    reference: Text | None = Field(default=None, description="Your own name for what caused it")


class OnHandUpdate(Body):
    quantity: Count
    expected_quantity: Annotated[int, Field(ge=0)] | None = Field(
        description="What you think is on hand; null: whatever it is"
    )
    reason: Text | None = None


class ThresholdUpdate(Body):
    threshold: Count = Field(description="Low is at or under it; 0 is no alarm")


class ReservationLine(Body):
    product_id: str = Field(min_length=1, max_length=64)
    quantity: Quantity


class ReservationCreate(Body):
    lines: list[ReservationLine] = Field(min_length=1, max_length=MAX_LINES, description="Each product once")
    ttl_seconds: int = Field(default=TTL_S, ge=1, le=MAX_TTL_S)
    reference: Text | None = Field(default=None, description="Your own name for what it is for")


class StockProduct(BaseModel):
    sku: str
    name: str
    price: Price | None
    status: ProductStatus
    as_of: datetime = Field(description="When products last confirmed this")
    stale: bool = Field(description="Products cannot be asked at present")


class StockRead(BaseModel):
    product_id: str
    on_hand: int
    reserved: int
    available: int
    threshold: int
    version: int
    product: StockProduct

    @classmethod
    def of(cls, stock: Stock) -> "StockRead":
        known = stock.product.model_dump(include=set(StockProduct.model_fields))
        product = StockProduct(**known, stale=stock.stale)
        return cls(product_id=stock.level.id, product=product, **stock.level.model_dump(include=set(cls.model_fields)))


class MovementRead(BaseModel):
    movement_id: str
    seq: int
    kind: Kind
    quantity: int
    on_hand_after: int
    reserved_after: int
    available_after: int
    created_at: datetime

    @classmethod
    def of(cls, movement: Movement) -> Self:
        shown = movement.model_dump(include=set(cls.model_fields))
        return cls(movement_id=movement.movement_id, created_at=movement.at, **shown)


class MovementEntry(MovementRead):
    """One line of the history."""

    reservation_id: str | None
    reason: str | None
    reference: str | None


class ReservationLineRead(BaseModel):
    product_id: str
    quantity: int


class ReservationRead(BaseModel):
    reservation_id: str
    status: ReservationStatus
    lines: list[ReservationLineRead]
    expires_at: datetime
    reference: str | None
    created_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, reservation: Reservation) -> "ReservationRead":
        lines = [ReservationLineRead(product_id=line.level_id, quantity=line.quantity) for line in reservation.lines]
        shown = reservation.model_dump(include=set(cls.model_fields) - {"lines"})
        return cls(reservation_id=reservation.id, lines=lines, **shown)
