"""Scanned documents in MongoDB: one upsert each, guarded by the generation of its scan.

A batch that is repeated, or of an older scan, changes nothing. What came from outside goes through `$literal`.
"""

from collections.abc import Sequence
from typing import Any

from pymongo import UpdateOne

from app.documents.adapter.mongo import DocumentRecord
from app.documents.adapter.mongo_runs import given, plus, queued
from app.documents.domain.document import Document, Source
from app.documents.domain.scanned import scanned_document
from app.folders.contracts import ScanCounts, ScannedFile, ScannedFolder
from core.clock import Clock
from core.mongo import NOW, Row, to_row, translated

AT_ONCE = 200  # so that other requests get their turn
COUNTED = {
    "seen": "generation", "created": "created_generation", "updated": "changed_generation",
    "missing": "missing_generation",
}  # fmt: skip


class MongoScannedDocuments:
    """ScannedDocuments in the collection `documents`."""

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        """`max_bytes`: larger files are no documents."""
        self._clock, self._max_bytes = clock, max_bytes

    async def take(self, folder: ScannedFolder, files: Sequence[ScannedFile]) -> int:
        now, skipped = self._clock(), 0
        for start in range(0, len(files), AT_ONCE):
            part = files[start : start + AT_ONCE]
            documents = [scanned_document(folder, file, self._max_bytes, now) for file in part]
            updates = [_seen(document, document.source) for document in documents if document and document.source]
            skipped += len(part) - len(updates)
            if updates:  # of two at once for one path MongoDB itself repeats the one that came second
                with translated():
                    await DocumentRecord.rows().bulk_write(updates, ordered=False)
        return skipped

    async def sweep(self, folder: ScannedFolder) -> None:
        unseen = {
            "source.folder_id": folder.folder_id, "source.generation": {"$lt": folder.generation},
            "source.missing_since": None, "deleted_at": None,
        }  # fmt: skip
        missed = {"source.missing_since": NOW, "source.missing_generation": folder.generation}
        with translated():
            await DocumentRecord.rows().update_many(unseen, [{"$set": missed}])

    async def count(self, folder: ScannedFolder) -> ScanCounts:
        here = {"source.folder_id": folder.folder_id, "source.generation": {"$gt": 0}}
        sums = {
            count: {"$sum": {"$cond": [{"$eq": [f"$source.{field}", folder.generation]}, 1, 0]}}
            for count, field in COUNTED.items()
        }
        with translated():
            cursor = await DocumentRecord.rows().aggregate([{"$match": here}, {"$group": {"_id": None, **sums}}])
            found = await cursor.to_list()
        return ScanCounts(**{count: row[count] for row in found for count in COUNTED})


def _seen(document: Document, source: Source) -> UpdateOne:
    fresh = to_row(document)
    seen = {"generation": source.generation, "missing_since": None}
    # The attempt that reads the old bytes is fenced off, and does not count as a try.
    requeued = queued({"run.tries": plus("$run.tries", -1)})
    again = {field.removeprefix("run."): value for field, value in requeued.items()}
    run = _first([
        ({"$eq": ["$run.state", "running"]}, _merged("$run", again)),
        ({"$eq": ["$run.state", "queued"]}, "$run"),
    ], _merged("$run", {"result": None, "error": None}))  # fmt: skip
    changed = {
        "source": _merged("$source", {**seen, "etag": given(source.etag), "changed_generation": source.generation}),
        "status": {"$cond": [{"$eq": ["$status", "PROCESSING"]}, "$status", "UPLOADED"]},
        "run": run, "size": document.size, "sha256": None, "deleted_at": None, "purged_at": None,
        "version": plus("$version", 1), "updated_at": NOW,
    }  # fmt: skip
    after = _first([
        ({"$eq": [{"$type": "$_id"}, "missing"]}, given(fresh)),
        ({"$lte": [source.generation, "$source.generation"]}, "$$ROOT"),  # a repeat, or an older scan
        ({"$eq": ["$source.etag", given(source.etag)]}, _merged("$$ROOT", {"source": _merged("$source", seen)})),
    ], _merged("$$ROOT", changed))  # fmt: skip
    place = {"source.folder_id": source.folder_id, "source.path": source.path}
    return UpdateOne(place, [{"$replaceWith": after}], upsert=True)


def _first(cases: Sequence[tuple[Row, Any]], otherwise: Any) -> Row:
    """What goes with the first condition that holds."""
    return {"$switch": {"branches": [{"case": case, "then": then} for case, then in cases], "default": otherwise}}


def _merged(row: str, update: Row) -> Row:
    return {"$mergeObjects": [row, update]}
