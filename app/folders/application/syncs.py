"""Syncs of folders: asked for, ordered from the scan service, filled by its callbacks, finalised once.

Documents come first and the mark of their batch second, so a crash between repeats a batch and never loses one.
"""

from asyncio import gather
from collections.abc import Sequence
from contextlib import suppress

import structlog

from app.folders.contracts import ScanCounts, ScannedDocuments, ScannedFile, ScannedFolder
from app.folders.domain.errors import FolderNotFound, NoScanService, NoSource, ScanRefused, SyncNotFound
from app.folders.domain.folder import Folder
from app.folders.domain.ports import Folders, ScanOrders, SyncQueue, Syncs
from app.folders.domain.sync import MAX_FOLDERS, SILENCE, TIMEOUT, ScanEnd, Sync, SyncErrorCode, SyncFolder
from app.scans.contracts import ScanFolder, ScanOrder, ScanStatus
from core.clock import Clock
from core.errors import Unavailable
from core.events import Announcements
from core.ids import id_for, random_token

log = structlog.get_logger("folders")

BATCH = 200


class SyncService:
    def __init__(
        self, syncs: Syncs, folders: Folders, documents: ScannedDocuments, orders: ScanOrders | None, queue: SyncQueue,
        announcements: Announcements, clock: Clock,
    ) -> None:  # fmt: skip
        """`orders` is None where nobody scans."""
        self._syncs, self._folders, self._documents, self._orders = syncs, folders, documents, orders
        self._queue, self._announcements, self._clock = queue, announcements, clock

    def demand_scans(self) -> ScanOrders:
        """Raises NoScanService."""
        if self._orders is None:
            raise NoScanService
        return self._orders

    async def start(
        self, owner_id: str, folder_ids: Sequence[str] | None, *, request_id: str, command_id: str | None = None
    ) -> Sync:
        """The sync, not yet ordered. The record comes before the order, since a callback may overtake everything."""
        sync_id = id_for("syn", command_id)
        if command_id is not None:
            with suppress(SyncNotFound):
                return await self._syncs.get(sync_id, owner_id)
        now = self._clock()
        sync = Sync(
            id=sync_id,
            owner_id=owner_id,
            folders=tuple(await gather(*map(self._next, await self._chosen(owner_id, folder_ids)))),
            request_id=request_id,
            next_at=now,
            heard_at=now,
            created_at=now,
        )
        sync = await self._syncs.add(sync)
        self._queue.wake(sync)
        log.info("sync_started", sync_id=sync.id, folders=len(sync.folders))
        return sync

    async def get(self, owner_id: str, sync_id: str) -> tuple[Sync, ScanCounts]:
        """With what it has found so far."""
        sync = await self._syncs.get(sync_id, owner_id)
        return sync, sync.counts or (ScanCounts() if sync.status == "PENDING" else await self._count(sync))

    async def order(self, sync_id: str) -> None:
        """Does nothing where it is ordered already (a late or repeated message)."""
        sync = await self._syncs.find_for_worker(sync_id)
        if sync is not None and sync.status == "PENDING":
            await self._safely(sync)

    async def reconcile(self) -> None:
        """Looks after every sync that nobody has heard of for a while."""
        for sync in await self._syncs.due(BATCH):
            await self._safely(sync)

    async def take(self, sync_id: str, scan_id: str, folder_id: str, number: int, files: Sequence[ScannedFile]) -> bool:
        """A batch of files; whether it was here before. Raises SyncNotFound."""
        sync = await self._of_scan(sync_id, scan_id)
        folder = next((folder for folder in sync.scanned() if folder.folder_id == folder_id), None)
        if folder is None:
            raise SyncNotFound
        batch = f"{folder_id}:{number}"
        marked = None
        if sync.is_open and batch not in sync.batches:
            skipped = await self._taken(folder, files)
            if skipped:
                log.warning("scanned_files_skipped", sync_id=sync_id, folder_id=folder_id, count=skipped)
            marked = await self._syncs.mark(sync_id, scan_id, batch, skipped)
        await self._conclude(marked or sync)
        return marked is None

    async def take_end(self, sync_id: str, scan_id: str, end: ScanEnd) -> bool:
        """The completion marker; whether it was here before. Raises SyncNotFound."""
        sync = await self._of_scan(sync_id, scan_id)
        marked = await self._syncs.mark_end(sync_id, scan_id, end)
        await self._conclude(marked or sync)
        return marked is None

    async def _chosen(self, owner_id: str, folder_ids: Sequence[str] | None) -> Sequence[Folder]:
        if folder_ids is None:
            folders = await self._folders.with_source(owner_id, MAX_FOLDERS + 1)
        else:
            folders = await gather(*(self._folders.get(each, owner_id) for each in dict.fromkeys(folder_ids)))
        without = [index for index, folder in enumerate(folders) if folder.source is None]
        if without:
            raise NoSource(pointer=f"/folder_ids/{without[0]}", rule="no_source")
        if not 1 <= len(folders) <= MAX_FOLDERS:
            raise NoSource(f"Name 1 to {MAX_FOLDERS} folders that have a source.", pointer="/folder_ids")
        return folders

    async def _next(self, folder: Folder) -> SyncFolder:
        assert folder.source is not None
        generation = await self._folders.next_generation(folder)
        return SyncFolder(folder_id=folder.id, source=folder.source, generation=generation)

    async def _taken(self, folder: ScannedFolder, files: Sequence[ScannedFile]) -> int:
        try:
            await self._folders.get(folder.folder_id, folder.owner_id)
        except FolderNotFound:  # deleted meanwhile
            return len(files)
        return await self._documents.take(folder, files)

    async def _of_scan(self, sync_id: str, scan_id: str) -> Sync:
        """A sync that this side started, bound to the first scan that spoke of it."""
        sync = await self._syncs.find_for_worker(sync_id)
        if sync is None or sync.scan_id not in {None, scan_id}:
            raise SyncNotFound
        return sync

    async def _safely(self, sync: Sync) -> None:
        try:
            await self._attend(sync)
        except Unavailable as error:
            log.warning("sync_postponed", sync_id=sync.id, error=error.code)
        except Exception:  # one sync must not hold up the others
            log.exception("sync_error", sync_id=sync.id)

    async def _attend(self, sync: Sync) -> None:
        now = self._clock()
        if sync.all_is_here:
            await self._finalise(sync)
        elif now - sync.created_at > TIMEOUT:
            await self._finish(sync, "FAILED", "scan_timeout")
        elif sync.status == "PENDING":
            await self._order(sync)
        elif now - sync.heard_at > SILENCE:
            await self._ask(sync)

    async def _order(self, sync: Sync) -> None:
        folders = tuple(ScanFolder(folder_id=folder.folder_id, source=folder.source) for folder in sync.folders)
        order = ScanOrder(user_id=sync.owner_id, folders=folders, correlation_id=sync.id)
        try:
            scan_id = await self.demand_scans().order(order, sync.id)
        except ScanRefused as refused:
            await self._finish(sync, "FAILED", refused.code)
        else:
            await self._syncs.ordered(sync.id, scan_id)
            log.info("scan_ordered", sync_id=sync.id, scan_id=scan_id)

    async def _ask(self, sync: Sync) -> None:
        assert sync.scan_id is not None, "a running sync knows its scan"
        try:
            status = await self.demand_scans().status(sync.scan_id)
        except ScanRefused as refused:
            await self._finish(sync, "FAILED", refused.code)
            return
        if status == "FAILED":
            await self._finish(sync, "FAILED", "scan_failed")
        else:
            await self._syncs.heard(sync.id)

    async def _conclude(self, sync: Sync) -> None:
        if sync.is_open and sync.all_is_here:
            with suppress(Unavailable):  # what was sent is here; the reconciler does the rest
                await self._finalise(sync)

    async def _finalise(self, sync: Sync) -> None:
        assert sync.end is not None
        if sync.end.status == "FAILED":
            await self._finish(sync, "FAILED", "scan_failed")
            return
        token = random_token()
        if not await self._syncs.hold(sync.id, token):
            return
        for folder in sync.scanned():
            if folder.folder_id not in sync.end.failed_folders:  # a partial listing makes nothing missing
                await self._documents.sweep(folder)
        error: SyncErrorCode | None = "source_unreadable" if sync.end.failed_folders else None
        await self._finish(sync, "COMPLETED", error, token)

    async def _finish(
        self, sync: Sync, status: ScanStatus, error: SyncErrorCode | None, token: str | None = None
    ) -> None:
        if await self._syncs.finish(sync.id, status, await self._count(sync), error, token):
            log.info("sync_ended", sync_id=sync.id, status=status, error=error)
            await self._announcements.run_for(sync.id)

    async def _count(self, sync: Sync) -> ScanCounts:
        return sum(await gather(*map(self._documents.count, sync.scanned())), ScanCounts())
