"""What the folders module needs from the world."""

from collections.abc import Sequence
from typing import Protocol

from app.folders.contracts import ScanCounts
from app.folders.domain.folder import Folder
from app.folders.domain.sync import ScanEnd, Sync, SyncErrorCode
from app.scans.contracts import ScanOrder, ScanStatus
from core.paging import Page, Position


class Folders(Protocol):
    """Every call names the owner; somebody else's folder is not there."""

    async def add(self, folder: Folder) -> Folder:
        """The stored one, which another run of the same command may have made. Raises FolderExists."""

    async def get(self, folder_id: str, owner_id: str) -> Folder:
        """Raises FolderNotFound."""

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Folder]: ...

    async def replace(self, folder: Folder, *, expected_version: int) -> None:
        """Stores the new state where the version still is the expected one. Raises FolderExists, PreconditionFailed."""

    async def mark(self, folder: Folder, removal: str | None) -> bool:
        """Sets or takes back the mark of a removal where it still is the one given."""

    async def remove(self, folder: Folder) -> bool:
        """Where version and mark still are those given."""

    async def with_source(self, owner_id: str, limit: int) -> Sequence[Folder]: ...

    async def next_generation(self, folder: Folder) -> int:
        """A number that no sync of this folder had before. Raises FolderNotFound."""


class Syncs(Protocol):
    """Each change is one conditional update on the database's clock; what is over never changes again."""

    async def add(self, sync: Sync) -> Sync:
        """The stored one, which another run of the same command may have made."""

    async def get(self, sync_id: str, owner_id: str) -> Sync:
        """Raises SyncNotFound."""

    async def find_for_worker(self, sync_id: str) -> Sync | None:
        """Whoever the owner is."""

    async def due(self, limit: int) -> Sequence[Sync]:
        """Open ones that somebody must look after; each is due again a little later."""

    async def ordered(self, sync_id: str, scan_id: str) -> None:
        """PENDING → RUNNING."""

    async def heard(self, sync_id: str) -> None: ...

    async def mark(self, sync_id: str, scan_id: str, batch: str, skipped: int) -> Sync | None:
        """A batch is here. None where that was known, or the sync is over or belongs to another scan."""

    async def mark_end(self, sync_id: str, scan_id: str, end: ScanEnd) -> Sync | None:
        """All is listed. None as for `mark`."""

    async def hold(self, sync_id: str, token: str) -> bool:
        """The right to finalise, for a while; somebody else's must have run out."""

    async def finish(
        self, sync_id: str, status: ScanStatus, counts: ScanCounts, error: SyncErrorCode | None, token: str | None
    ) -> bool:
        """It is over, and an event tells. With a token only for whoever holds it. False where it was over before."""


class ScanOrders(Protocol):
    """The scan service. Raises ScanRefused, or Unavailable where a repeat may succeed."""

    async def order(self, order: ScanOrder, command_id: str) -> str:
        """The id of the scan, the same for the same command."""

    async def status(self, scan_id: str) -> ScanStatus: ...


class SyncQueue(Protocol):
    def wake(self, sync: Sync) -> None:
        """Tells some worker to order the scan. May be lost: the reconciler does it then."""
