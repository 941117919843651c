"""Documents in MongoDB: the record with its indexes, and what people do with their own. Runs: mongo_runs.py."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, cast, get_args

from pymongo import ASCENDING, IndexModel

from app.documents.adapter.mongo_uploads import UploadRecord
from app.documents.domain.document import Document, DocumentView, RunView, Status
from app.documents.domain.errors import DocumentNotFound
from app.documents.domain.ports import LISTED_FIELDS, Filters, Listed, NamedObjects, StoredNames
from core.clock import Clock
from core.coalesce import PerTick
from core.idempotency import IdempotencyRecord
from core.mongo import NEWEST, Record, Row, change_one, find_one, insert_new, rows_page, translated
from core.paging import Page, Position
from core.relay import OUTBOX_INDEX, DeliveryRecord

SCAN_COUNTED = ("folder_id", "generation", "created_generation", "changed_generation", "missing_generation")


def _list_index(name: str, *fields: str) -> IndexModel:
    keys = [("owner_id", ASCENDING), *((field, ASCENDING) for field in fields), *NEWEST]
    return IndexModel(keys, name=name, partialFilterExpression={"deleted_at": None})


# A write that forgets the machine of states fails with code 121 instead of leaving a document behind.
VALIDATOR: Row = {
    "$expr": {
        "$and": [
            {"$in": ["$status", list(get_args(Status))]},
            {"$eq": [{"$in": ["$run.state", ["queued", "running"]]}, {"$eq": ["$status", "PROCESSING"]}]},
            {"$or": [
                {"$ne": ["$run.state", "running"]},
                {"$and": [{"$gt": ["$run.token", None]}, {"$gt": ["$run.locked_until", None]}]},
            ]},
            {"$or": [{"$ne": ["$status", "COMPLETED"]}, {"$gt": ["$run.result", None]}]},
            {"$or": [{"$ne": ["$status", "FAILED"]}, {"$gt": ["$run.error", None]}]},
        ]
    }
}  # fmt: skip


class DocumentRecord(Document, Record):
    class Settings:
        name = "documents"
        validator = VALIDATOR
        indexes: ClassVar = [
            _list_index("owner_newest"),  # GET /documents
            _list_index("owner_status", "status"),  # GET /documents?status=
            _list_index("owner_folder", "folder_id"),  # GET /documents?folder_id=, and whether a folder is empty
            _list_index("owner_folder_status", "folder_id", "status"),  # both; other pairs leave few to look through
            _list_index("owner_external", "external_id"),  # GET /documents?external_id=
            _list_index("owner_filename", "filename"),  # GET /documents?filename=
            _list_index("owner_sha256", "sha256"),  # on_duplicate
            IndexModel(  # on_duplicate: of several at once one is the first
                [("owner_id", ASCENDING), ("sole_sha256", ASCENDING)],
                name="owner_sole_sha256",
                unique=True,
                partialFilterExpression={"sole_sha256": {"$type": "string"}, "deleted_at": None},
            ),
            IndexModel(  # the reconciler: what waits for a wake-up, longest first
                [("run.woken_at", ASCENDING)], name="queued", partialFilterExpression={"run.state": "queued"}
            ),
            IndexModel(  # the reconciler: whose lease ran out, longest first
                [("run.locked_until", ASCENDING)],
                name="running",
                partialFilterExpression={"run.state": "running"},
            ),
            OUTBOX_INDEX,
            IndexModel(  # the sweep: tombstones whose objects are still there
                [("deleted_at", ASCENDING)],
                name="to_purge",
                partialFilterExpression={"deleted_at": {"$type": "date"}, "purged_at": None},
            ),
            IndexModel(  # scans: one document per object; `$exists`, since `$type` is not used by upserts
                [("source.folder_id", ASCENDING), ("source.path", ASCENDING)],
                name="source_path",
                unique=True,
                partialFilterExpression={"source.path": {"$exists": True}},
            ),
            IndexModel(  # scans: what a sync did not see, and its counts from the index alone
                [(f"source.{name}", ASCENDING) for name in SCAN_COUNTED],
                name="source_generation",
                partialFilterExpression={"source.generation": {"$exists": True}},
            ),
        ]


class DocumentDeliveryRecord(DeliveryRecord):
    """Events of documents, one row per subscriber."""


class DocumentKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


_OF_A_RUN = [f"run.{name}" for name in RunView.__annotations__]
VIEW = dict.fromkeys([*(DocumentView.__annotations__.keys() - {"run"}), *_OF_A_RUN, "owner_id"], True)

RECORDS = (DocumentRecord, DocumentDeliveryRecord, DocumentKeyRecord, UploadRecord)


class MongoDocuments:
    """Documents in the collection `documents`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._view = PerTick(self._views)

    async def add(self, document: Document) -> Document:
        if await insert_new(DocumentRecord.rows(), document):
            return document
        sole = {"owner_id": document.owner_id, "sha256": document.sha256, "sole_sha256": document.sole_sha256 or ""}
        found = await self.find(document.id, document.owner_id) or await self._find(sole)
        if found is None:  # deleted meanwhile
            raise DocumentNotFound
        return found

    async def get(self, document_id: str, owner_id: str) -> Document:
        found = await self.find(document_id, owner_id)
        if found is None:
            raise DocumentNotFound
        return found

    async def find(self, document_id: str, owner_id: str) -> Document | None:
        return await self._find({"_id": document_id, "owner_id": owner_id})

    async def view(self, document_id: str, owner_id: str) -> DocumentView:
        row = await self._view((document_id, owner_id))
        if row is None:
            raise DocumentNotFound
        return cast(DocumentView, {**row, "document_id": document_id})

    async def find_by_sha256(self, sha256: str, owner_id: str) -> Document | None:
        return await self._find({"owner_id": owner_id, "sha256": sha256})

    async def list(self, owner_id: str, filters: Filters, after: Position | None, limit: int) -> Page[Listed]:
        asked = {name: value for name, value in vars(filters).items() if value is not None}
        page = await rows_page(
            DocumentRecord.naive_rows(),
            {"owner_id": owner_id, "deleted_at": None, **asked},
            after,
            limit,
            LISTED_FIELDS,
        )
        return Page([{"document_id": row.pop("_id"), **row} for row in page.items], page.next)

    async def update(self, document: Document, fields: dict[str, Any]) -> Document | None:
        query = {
            "_id": document.id, "owner_id": document.owner_id, "deleted_at": None, "version": document.version,
        }  # fmt: skip
        change = {"$set": {**fields, "updated_at": self._clock()}, "$inc": {"version": 1}}
        return await change_one(DocumentRecord.rows(), query, change, Document)

    async def purge(self, document_id: str) -> None:
        with translated():
            gone = {"_id": document_id, "deleted_at": {"$type": "date"}}
            await DocumentRecord.rows().delete_one(
                {**gone, "outbox.at": {"$exists": False}, "source.path": {"$exists": False}}
            )
            await DocumentRecord.rows().update_one(
                {**gone, "source.path": {"$exists": True}}, {"$set": {"purged_at": self._clock()}}
            )

    async def removed(self, limit: int) -> Mapping[str, int]:
        waiting = {"deleted_at": {"$type": "date"}, "purged_at": None}
        with translated():
            cursor = DocumentRecord.rows().find(waiting, {"run.attempt": 1}).sort("deleted_at", ASCENDING)
            return {row["_id"]: row["run"]["attempt"] for row in await cursor.limit(limit).to_list()}

    async def objects_of(self, document_ids: Collection[str]) -> Mapping[str, NamedObjects]:
        asked = {"_id": {"$in": list(document_ids)}, "deleted_at": None}
        fields = {"key": 1, "run.state": 1, "run.attempt": 1, "run.result.attempt": 1}
        named = {}
        with translated():
            for row in await DocumentRecord.rows().find(asked, fields).to_list():
                run = row["run"]
                attempts = {run["attempt"]} if run.get("state") else set()
                attempts |= {run["result"]["attempt"]} if run.get("result") else set()
                named[row["_id"]] = NamedObjects(row["key"], frozenset(attempts))
        return named

    async def stored_after(self, document_id: str, limit: int) -> Sequence[StoredNames]:
        asked = {"_id": {"$gt": document_id}, "deleted_at": None, "source": None}
        with translated():
            cursor = DocumentRecord.rows().find(asked, {"key": 1, "run.result.objects": 1}).sort("_id", ASCENDING)
            rows = await cursor.limit(limit).to_list()
        results = [((row.get("run") or {}).get("result") or {}).get("objects") or {} for row in rows]
        return [
            StoredNames(row["_id"], row["key"], tuple(stored["key"] for stored in objects.values()))
            for row, objects in zip(rows, results, strict=True)
        ]

    async def has_documents(self, folder_id: str, owner_id: str) -> bool:
        """For folders (FolderContents)."""
        return await self._find({"owner_id": owner_id, "folder_id": folder_id}) is not None

    async def _views(self, keys: Sequence[tuple[str, str]]) -> Sequence[Row | None]:
        each = [{"_id": document_id, "owner_id": owner_id} for document_id, owner_id in set(keys)]
        asked = {"$or": each} if len(each) > 1 else each[0]
        with translated():
            rows = await DocumentRecord.rows().find({**asked, "deleted_at": None}, VIEW).to_list()
        found = {(row["_id"], row["owner_id"]): row for row in rows}
        return [found.get(key) for key in keys]

    async def _find(self, query: Row) -> Document | None:
        return await find_one(DocumentRecord.rows(), {**query, "deleted_at": None}, Document)
