"""What must happen without anybody asking: lost work is found again, and what nobody names is removed."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.documents.domain.document import ORIGINALS, RESULTS, attempt_of, document_of, originals_prefix, result_prefix
from app.documents.domain.ports import Documents, ProcessingQueue, Runs
from core.clock import Clock
from core.storage.base import FileStore, StoredFile

log = structlog.get_logger("documents")

BATCH = 200
ORPHAN_AGE = timedelta(hours=24)


class Upkeep:
    """Every step is harmless when repeated, and when several processes do it at once."""

    def __init__(
        self, documents: Documents, runs: Runs, queue: ProcessingQueue, files: FileStore, clock: Clock
    ) -> None:
        self._documents, self._runs, self._queue = documents, runs, queue
        self._files, self._clock = files, clock

    async def reconcile(self) -> None:
        """Ends what is over, frees what its worker left, and wakes what waits."""
        ended = await self._runs.end_overdue(BATCH)
        freed = await self._runs.free_dead(BATCH)
        # Whoever waits in a long queue would be sent again every interval.
        crowded = await self._queue.backlog() >= BATCH
        woken = [] if crowded else await self._runs.wake_due(BATCH)
        for wake_up in (*freed, *woken):
            self._queue.wake(wake_up)
        if ended or freed or woken:
            log.info("reconciled", ended=ended, freed=len(freed), woken=len(woken))

    async def remove_orphans(self) -> None:
        """Objects that no record names: what a crash left between bytes and record, and results of old attempts."""
        batch: list[StoredFile] = []
        for prefix in (ORIGINALS, RESULTS):
            async for file in self._files.list_files(prefix):
                batch.append(file)
                if len(batch) == BATCH:
                    await self._remove_unnamed(batch)
                    batch = []
        await self._remove_unnamed(batch)

    async def _remove_unnamed(self, files: Sequence[StoredFile]) -> None:
        """A young original may be waiting for its record; an attempt's number is never used again."""
        named = await self._documents.objects_of({document_of(file.key) for file in files})
        newest = self._clock() - ORPHAN_AGE
        orphans = []
        for file in files:
            known = named.get(document_of(file.key))
            if file.key.startswith(ORIGINALS):
                wanted = file.modified_at > newest or (known is not None and known.original == file.key)
            else:
                wanted = known is not None and attempt_of(file.key) in known.attempts
            if not wanted:
                orphans.append(file.key)
        if orphans:
            await self._files.delete(orphans)
            log.info("orphans_removed", count=len(orphans))

    async def remove_deleted(self) -> None:
        """Objects of deleted documents, then the record."""
        for document_id, last_attempt in (await self._documents.removed(BATCH)).items():
            keys = [file.key async for file in self._files.list_files(originals_prefix(document_id))]
            async for file in self._files.list_files(result_prefix(document_id)):
                if attempt_of(file.key) <= last_attempt:  # a scan may bring the document back, with new results
                    keys.append(file.key)
            if keys:
                await self._files.delete(keys)
            await self._documents.purge(document_id)
            log.info("removed", document_id=document_id)
