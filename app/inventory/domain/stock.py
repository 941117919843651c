"""Stock of a product: what is there, what is promised of it, and the ledger of every change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.products.contracts import ProductView
from core.values import Value

Kind = Literal["receive", "issue", "adjust", "set", "reserve", "release", "commit", "expire"]
Ending = Literal["release", "commit", "expire"]
ReservationStatus = Literal["active", "committed", "released", "expired"]

PRODUCT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # products choose; in ledger ids `#` comes after it
MAX_QUANTITY, MAX_LINES = 10**12, 100
MAX_TTL_S, TTL_S = 86_400, 900

# What a quantity means for on hand and for reserved.
SIGNS: Mapping[Kind, tuple[int, int]] = {
    "receive": (1, 0), "issue": (-1, 0), "adjust": (1, 0), "set": (1, 0),
    "reserve": (0, 1), "release": (0, -1), "expire": (0, -1), "commit": (-1, -1),
}  # fmt: skip
ENDS: Mapping[Ending, ReservationStatus] = {"commit": "committed", "release": "released", "expire": "expired"}


def is_low(available: int, threshold: int) -> bool:
    """A threshold of 0 is no alarm."""
    return threshold > 0 and available <= threshold


@dataclass(frozen=True)
class Command:
    """Who asks for a change, and why. All runs of one command have the same id; `repeatable`: there may be several."""

    id: str
    actor: str
    request_id: str
    repeatable: bool = False
    reason: str | None = None
    reference: str | None = None


class Level(Value):
    """`seq` counts movements, `version` every change; `on_hand == reserved + available`, none is ever negative."""

    id: str  # there is one place, so it is the product's
    on_hand: int
    reserved: int
    available: int
    seq: int
    version: int
    threshold: int
    low: bool
    updated_at: datetime


class Movement(Value):
    """One line of the ledger: never changed, never back-dated; a correction is a new one."""

    id: str  # <level_id>#<seq>, with twelve digits
    level_id: str
    seq: int
    kind: Kind
    quantity: int
    d_on_hand: int
    d_reserved: int
    on_hand_after: int
    reserved_after: int
    available_after: int
    command_id: str
    reservation_id: str | None
    reason: str | None
    reference: str | None
    actor: str
    request_id: str
    at: datetime

    @property
    def movement_id(self) -> str:
        return f"mov_{self.level_id}_{self.seq}"


class Line(Value):
    level_id: str
    quantity: int


class Reservation(Value):
    """Stock promised until `expires_at`: all of its lines or none."""

    id: str
    status: ReservationStatus
    lines: tuple[Line, ...]
    expires_at: datetime
    command_id: str
    reference: str | None
    created_at: datetime
    closed_at: datetime | None


class ProductSnapshot(ProductView):
    """Our copy of a product. `as_of`: when products last confirmed it; `rev` counts writes of the copy."""

    as_of: datetime
    rev: int


@dataclass(frozen=True)
class Stock:
    """A level and its product; `stale`: products cannot be asked at present."""

    level: Level
    product: ProductSnapshot
    stale: bool
