"""What must happen without anybody asking: lost work is found again, and what was deleted is removed."""

import structlog

from app.documents.domain.document import attempt_of, originals_prefix, result_prefix
from app.documents.domain.ports import Documents, ProcessingQueue, Runs
from core.storage.base import FileStore

log = structlog.get_logger("documents")

BATCH = 200


class Upkeep:
    """Every step is harmless when repeated, and when several processes do it at once."""

    def __init__(self, documents: Documents, runs: Runs, queue: ProcessingQueue, files: FileStore) -> None:
        self._documents, self._runs, self._queue, self._files = documents, runs, queue, files

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
