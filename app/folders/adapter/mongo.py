"""Folders in MongoDB."""

from collections.abc import Sequence
from typing import ClassVar

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from app.folders.adapter.mongo_syncs import FolderDeliveryRecord, SyncRecord
from app.folders.domain.errors import FolderExists, FolderNotFound
from app.folders.domain.folder import Folder
from core.errors import PreconditionFailed
from core.idempotency import IdempotencyRecord
from core.mongo import NEWEST, Record, change_one, get_one, insert_new, page_of, to_model, translated
from core.paging import Page, Position


class FolderRecord(Folder, Record):
    class Settings:
        name = "folders"
        indexes: ClassVar = [
            IndexModel([("owner_id", ASCENDING), ("name", ASCENDING)], name="owner_name", unique=True),
            IndexModel([("owner_id", ASCENDING), *NEWEST], name="owner_newest"),  # GET /folders
        ]


class FolderKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


RECORDS = (FolderRecord, SyncRecord, FolderDeliveryRecord, FolderKeyRecord)


class MongoFolders:
    async def add(self, folder: Folder) -> Folder:
        if await insert_new(FolderRecord.rows(), folder):
            return folder
        try:
            return await self.get(folder.id, folder.owner_id)
        except FolderNotFound as cause:
            raise FolderExists from cause

    async def get(self, folder_id: str, owner_id: str) -> Folder:
        return await get_one(FolderRecord.rows(), {"_id": folder_id, "owner_id": owner_id}, Folder, FolderNotFound)

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Folder]:
        return await page_of(FolderRecord.rows(), {"owner_id": owner_id}, after, limit, Folder)

    async def replace(self, folder: Folder, *, expected_version: int) -> None:
        try:
            with translated():
                result = await FolderRecord.rows().update_one(
                    {"_id": folder.id, "owner_id": folder.owner_id, "version": expected_version},
                    {"$set": folder.model_dump(include={"name", "version", "updated_at"})},
                )
        except DuplicateKeyError as cause:
            raise FolderExists from cause
        if not result.matched_count:
            raise PreconditionFailed

    async def mark(self, folder: Folder, removal: str | None) -> bool:
        marked = {"_id": folder.id, "owner_id": folder.owner_id, "removal": folder.removal}
        with translated():
            result = await FolderRecord.rows().update_one(marked, {"$set": {"removal": removal}})
        return bool(result.matched_count)

    async def remove(self, folder: Folder) -> bool:
        same = {"_id": folder.id, **folder.model_dump(include={"owner_id", "version", "removal"})}
        with translated():
            result = await FolderRecord.rows().delete_one(same)
        return bool(result.deleted_count)

    async def with_source(self, owner_id: str, limit: int) -> Sequence[Folder]:
        query = {"owner_id": owner_id, "source": {"$ne": None}}
        with translated():
            rows = await FolderRecord.rows().find(query).limit(limit).to_list()
        return [to_model(Folder, row) for row in rows]

    async def next_generation(self, folder: Folder) -> int:
        mine = {"_id": folder.id, "owner_id": folder.owner_id}
        counted = await change_one(FolderRecord.rows(), mine, {"$inc": {"generation": 1}}, Folder)
        if counted is None:
            raise FolderNotFound
        return counted.generation
