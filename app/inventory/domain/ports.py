"""What the inventory module needs from the world."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from app.inventory.domain.stock import Command, Ending, Kind, Level, Line, Movement, ProductSnapshot, Reservation
from app.products.contracts import ProductView
from core.paging import Page, Position


class ProductCatalog(Protocol):
    """The products module, here or elsewhere. Raises CatalogUnavailable or CatalogRefused, nothing else."""

    @property
    def refresh_after_s(self) -> float | None:
        """Seconds after which a copy is worth a question; None where events bring every change."""

    @property
    def is_down(self) -> bool:
        """Whether the last that was heard of it is a failure."""

    async def get(
        self, product_id: str, *, known: ProductView | None = None, quick: bool = False
    ) -> ProductView | None:
        """`known`: a copy, which is the answer where it is still right; `quick`: at most 300 ms."""

    def walk(self) -> AsyncIterator[ProductView]:
        """All products."""

    async def listen(self) -> None:
        """Keeps `is_down` right until cancelled."""

    async def close(self) -> None: ...


class ProductSnapshots(Protocol):
    async def find(self, product_id: str) -> ProductSnapshot | None: ...

    async def find_all(self, product_ids: Sequence[str]) -> Mapping[str, ProductSnapshot]: ...

    async def put(self, view: ProductView, as_of: datetime) -> ProductSnapshot:
        """Keeps it unless what is there is newer; the copy that is there afterwards."""

    async def any(self) -> bool: ...


class StockLedger(Protocol):
    """Levels and their movements. Changes raise StockBusy when they get no turn in time."""

    async def add(self, level_id: str) -> None:
        """A level of zeros, where there is none."""

    async def get(self, level_id: str) -> Level: ...

    async def list(self, *, low: bool, after: Position | None, limit: int) -> Page[Level]: ...

    async def movements(self, level_id: str, after: Position | None, limit: int) -> Page[Movement]: ...

    async def find_effect(self, command_id: str) -> Movement | None:
        """A movement that a run of this command has made."""

    async def move(self, level_id: str, kind: Kind, quantity: int, command: Command) -> Movement:
        """Raises InsufficientStock or CommandDone."""

    async def set_on_hand(
        self, level_id: str, quantity: int, command: Command, *, expected: int | None, versions: Collection[int] | None
    ) -> Level:
        """`versions`: those that may be replaced. Raises StockChanged, InsufficientStock or PreconditionFailed."""

    async def set_threshold(
        self, level_id: str, threshold: int, command: Command, *, versions: Collection[int] | None
    ) -> Level:
        """Raises PreconditionFailed."""


class Reservations(Protocol):
    async def get(self, reservation_id: str) -> Reservation:
        """Raises ReservationNotFound."""

    async def find_effect(self, command_id: str) -> Reservation | None: ...

    async def add(self, lines: Sequence[Line], ttl_s: int, command: Command) -> Reservation:
        """All lines or none. Raises InsufficientStock or CommandDone."""

    async def end(self, reservation: Reservation, ending: Ending, command: Command) -> Reservation:
        """Raises ReservationClosed where it is not active, or too late to be committed or released."""

    async def expire_due(self, level_ids: Collection[str] | None = None) -> None:
        """Ends overdue ones, of these levels or of all, up to a batch."""
