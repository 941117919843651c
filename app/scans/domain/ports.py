"""What the scans module needs from the world."""

from dataclasses import dataclass
from typing import Protocol

from app.scans.contracts import ScanOrder
from app.scans.domain.scan import Batch, Scan


class Scans(Protocol):
    """Times are compared on the database's clock; None and False mean that somebody else was there."""

    async def add(self, scan: Scan) -> Scan:
        """The stored one, which another run of the same command may have made."""

    async def get(self, scan_id: str) -> Scan:
        """Raises ScanNotFound."""

    async def delivered(self, scan: Scan) -> int:
        """How many of its batches the host has taken."""

    async def unsent(self, scan_id: str) -> int:
        """How many messages wait to be taken."""

    async def claim(self, scan_id: str, token: str) -> Scan | None:
        """Takes a scan that waits to be listed."""

    async def beat(self, scan_id: str, token: str) -> None:
        """Extends the lease."""

    async def advance(self, scan: Scan, batch: Batch | None, *, token: str) -> Scan | None:
        """Stores the holder's new state and its message together, and extends the lease."""

    async def give_back(self, scan_id: str, token: str, *, delay_s: float) -> None:
        """Into the queue again, without a try."""

    async def wake_due(self, limit: int) -> list[Scan]:
        """Frees scans of dead workers; those that are not over and were not woken lately, longest first."""


class Outgoing(Protocol):
    """Messages on their way. One process at a time sends those of a scan."""

    async def hold(self, scan_id: str, token: str) -> Scan | None:
        """Takes the sending of a running scan, or keeps it."""

    async def release(self, scan_id: str, token: str) -> None: ...

    async def due(self, scan_id: str, limit: int) -> list[Batch]: ...

    async def close(self, batch: Batch) -> None:
        """The host has taken it."""

    async def postpone(self, batch: Batch, *, delay_s: float, error: str) -> None: ...

    async def give_up(self, batch: Batch, error: str) -> None:
        """The scan fails, and nothing of it is sent or listed any more."""

    async def finish(self, scan_id: str) -> None:
        """The end of a scan whose listing is over and all of whose messages were taken."""


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended; `error` None: the host has taken the message."""

    error: str | None = None
    retry_after_s: int = 0


class Callbacks(Protocol):
    """The hosts that scans report to."""

    async def url_of(self, order: ScanOrder) -> str | None:
        """Where to; None is the receiver in this process. Raises CallbackNotRegistered."""

    async def send(self, scan: Scan, batch: Batch) -> Outcome:
        """One signed attempt, over in bounded time."""


class ScanQueue(Protocol):
    """Sends wake-ups; losing one is harmless."""

    def list(self, scan: Scan) -> None: ...

    def deliver(self, scan: Scan, after_s: float = 0) -> None: ...
