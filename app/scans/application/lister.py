"""Listing the sources of a scan, page by page; whoever dies is replaced behind the last page."""

from datetime import datetime, timedelta

import structlog

from app.scans.domain.found import found
from app.scans.domain.ports import ScanQueue, Scans
from app.scans.domain.scan import Batch, Scan
from core.clock import Clock
from core.ids import random_token
from core.object_keys import OWN_ROOT
from core.renewing import renewed
from core.sources import split_source
from core.storage.base import BucketUnreadable, FileStore, StorageUnavailable

log = structlog.get_logger("scans")

PAGE, MOST_UNSENT, TRIES = 1000, 20, 5
TURN = timedelta(seconds=15)  # then others have theirs; a process that is stopping has ended its own by then
STORAGE_PAUSE_S, STORAGE_PATIENCE = 20, timedelta(days=1)
OWN_END = OWN_ROOT + "\U0010ffff"


class Lister:
    """`lease_s`: how long nobody else touches a scan after a sign of life."""

    def __init__(self, scans: Scans, files: FileStore, queue: ScanQueue, clock: Clock, lease_s: float) -> None:
        self._scans, self._files, self._queue, self._clock, self._lease_s = scans, files, queue, clock, lease_s

    async def run(self, scan_id: str) -> None:
        """One turn; does nothing where the scan does not wait to be listed."""
        token, started = random_token(), self._clock()
        scan = await self._scans.claim(scan_id, token)
        async with renewed(self._lease_s / 3, lambda: self._scans.beat(scan_id, token)):  # a page may take longer
            await self._list(scan, token, until=started + TURN)

    async def _list(self, scan: Scan | None, token: str, until: datetime) -> None:
        while scan is not None and scan.run.state == "running":
            if await self._scans.unsent(scan.id) >= MOST_UNSENT:
                await self._scans.give_back(scan.id, token, delay_s=0)
                return  # the sender wakes us
            if self._clock() > until:
                await self._scans.give_back(scan.id, token, delay_s=0)
                self._queue.list(scan)
                return
            try:
                step = await self._step(scan)
            except StorageUnavailable:
                await self._scans.give_back(scan.id, token, delay_s=STORAGE_PAUSE_S)
                return
            scan = await self._scans.advance(*step, token=token)
            if scan is not None:
                self._queue.deliver(scan)

    async def _step(self, scan: Scan) -> tuple[Scan, Batch | None]:
        """The next state, and what to tell of it. Raises StorageUnavailable where waiting may help."""
        if scan.run.tries > TRIES:
            return scan.completed(self._clock(), "worker_lost")
        if scan.folder is None:
            return scan.completed(self._clock())
        bucket, prefix = split_source(scan.folder.source)
        try:
            files, more = await self._files.at(bucket).page(prefix, scan.cursor.after, PAGE)
        except StorageUnavailable as cause:
            late = self._clock() - scan.created_at > STORAGE_PATIENCE
            if not late and not isinstance(cause, BucketUnreadable):
                raise
            log.warning("source_unreadable", scan_id=scan.id, folder_id=scan.folder.folder_id)
            return scan.without_folder(), None
        documents = [document for file in files if (document := found(file))]
        counted, batch = scan.with_batch(documents, self._clock()) if documents else (scan, None)
        last = files[-1].key if files else ""
        return counted.listed(OWN_END if last.startswith(OWN_ROOT) else last, more=more), batch
