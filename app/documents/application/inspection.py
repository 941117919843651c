"""Whether storage and records agree: what nobody names, and what is named and not there.

Listings and records are read side by side in the order of their keys, so that memory does not grow with either. Objects
of hosts are never looked at: only what lies under our own root.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import structlog

from app.documents.domain.direct_upload import UPLOADS, DirectUploads, upload_of
from app.documents.domain.document import ORIGINALS, RESULTS, attempt_of, document_of
from app.documents.domain.ports import Documents, StoredNames
from core.clock import Clock
from core.object_keys import OWN_ROOT
from core.storage.base import FileMissing, StoredFile, UploadStore

log = structlog.get_logger("documents")

BATCH = 200
ORPHAN_AGE = timedelta(hours=24)


@dataclass(frozen=True)
class Finding:
    """One thing that does not agree. A missing object is all that cannot be put right here."""

    kind: Literal["orphan_object", "unfinished_upload", "missing_object"]
    key: str
    parts_id: str | None = None


class Inspection:
    def __init__(self, documents: Documents, uploads: DirectUploads, files: UploadStore, clock: Clock) -> None:
        self._documents, self._uploads, self._files, self._clock = documents, uploads, files, clock

    async def remove_orphans(self) -> None:
        """What a crash left between bytes and record, results of old attempts, uploads that nobody finished."""
        count = 0
        async for finding in self.orphans():
            count += await self.fix(finding)
        if count:
            log.info("orphans_removed", count=count)

    async def orphans(self) -> AsyncIterator[Finding]:
        """Objects that no record names. Young ones may be waiting for theirs."""
        for prefix, unnamed in (
            (ORIGINALS, self._unnamed_objects), (RESULTS, self._unnamed_objects), (UPLOADS, self._unnamed_uploads),
        ):  # fmt: skip
            async for batch in _batches(self._files.list_files(prefix)):
                for key in await unnamed(batch):
                    yield Finding("orphan_object", key)
        if self._files.in_parts is not None:
            async for begun in self._files.in_parts.unfinished(OWN_ROOT):
                known = await self._uploads.known({upload_of(begun.key)}) if begun.key.startswith(UPLOADS) else {}
                if not known and begun.begun_at < self._clock() - ORPHAN_AGE:
                    yield Finding("unfinished_upload", begun.key, begun.parts_id)

    async def missing(self) -> AsyncIterator[Finding]:
        """Objects that a record names and that are not there."""
        by_prefix: tuple[tuple[str, Callable[[StoredNames], Iterable[str]]], ...] = (
            (ORIGINALS, lambda names: [names.original]), (RESULTS, lambda names: sorted(names.results)),
        )  # fmt: skip
        for prefix, wanted in by_prefix:
            there = self._files.list_files(prefix)
            seen = await anext(there, None)
            async for names in self._named():
                for key in wanted(names):
                    while seen is not None and seen.key < key:
                        seen = await anext(there, None)
                    # Asked again where the listing misses it: it may be younger than the listing.
                    if (seen is None or seen.key != key) and not await self._is_there(key):
                        yield Finding("missing_object", key)

    async def fix(self, finding: Finding) -> bool:
        """Removes what nobody names. False where there is nothing that could be done."""
        if finding.kind == "orphan_object":
            await self._files.delete([finding.key])
        elif finding.parts_id is not None and self._files.in_parts is not None:
            await self._files.in_parts.abort_parts(finding.key, finding.parts_id)
        return finding.kind != "missing_object"

    async def _unnamed_objects(self, files: Sequence[StoredFile]) -> list[str]:
        """An attempt's number is never used again, so its results may be removed however young they are."""
        named = await self._documents.objects_of({document_of(file.key) for file in files})
        newest = self._clock() - ORPHAN_AGE
        unnamed = []
        for file in files:
            known = named.get(document_of(file.key))
            if file.key.startswith(ORIGINALS):
                wanted = file.modified_at > newest or (known is not None and known.original == file.key)
            else:
                wanted = known is not None and attempt_of(file.key) in known.attempts
            if not wanted:
                unnamed.append(file.key)
        return unnamed

    async def _unnamed_uploads(self, files: Sequence[StoredFile]) -> list[str]:
        known = await self._uploads.known({upload_of(file.key) for file in files})
        newest = self._clock() - ORPHAN_AGE
        return [file.key for file in files if upload_of(file.key) not in known and file.modified_at < newest]

    async def _named(self) -> AsyncIterator[StoredNames]:
        after = ""
        while names := await self._documents.stored_after(after, BATCH):
            for each in names:
                yield each
            after = names[-1].document_id

    async def _is_there(self, key: str) -> bool:
        try:
            await self._files.stat(key)
        except FileMissing:
            return False
        return True


async def _batches(files: AsyncIterator[StoredFile]) -> AsyncIterator[list[StoredFile]]:
    batch: list[StoredFile] = []
    async for file in files:
        batch.append(file)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
