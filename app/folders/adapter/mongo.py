"""Folders in MongoDB."""

from collections.abc import Sequence
from typing import ClassVar

from pymongo import DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.folders.adapter.mongo_syncs import FolderDeliveryRecord, SyncRecord
from app.folders.domain.errors import FolderExists, FolderNotFound
from app.folders.domain.folder import Folder
from core.errors import PreconditionFailed
from core.idempotency import IdempotencyRecord
from core.mongo import Record, page_of, to_model, translated
from core.paging import Page, Position


class FolderRecord(Folder, Record):
    class Settings:
        name = "folders"
        indexes: ClassVar = [
            IndexModel([("owner_id", 1), ("name", 1)], name="owner_name", unique=True),  # one folder per name
            IndexModel(  # GET /folders, newest first
                [("owner_id", 1), ("created_at", DESCENDING), ("_id", DESCENDING)], name="owner_newest"
            ),
        ]


class FolderKeyRecord(IdempotencyRecord):
    """Keys of requests to this module."""


RECORDS = (FolderRecord, SyncRecord, FolderDeliveryRecord, FolderKeyRecord)


class MongoFolders:
    """Folders in the collection `folders`."""

    async def add(self, folder: Folder) -> Folder:
        try:
            with translated():
                await FolderRecord(**folder.model_dump()).insert()
        except DuplicateKeyError as cause:
            try:
                return await self.get(folder.id, folder.owner_id)
            except FolderNotFound:
                raise FolderExists from cause
        return folder

    async def get(self, folder_id: str, owner_id: str) -> Folder:
        with translated():
            folder = await FolderRecord.find_one({"_id": folder_id, "owner_id": owner_id})
        if folder is None:
            raise FolderNotFound
        return folder

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Folder]:
        rows = FolderRecord.get_pymongo_collection()
        return await page_of(rows, {"owner_id": owner_id}, after, limit, Folder)

    async def replace(self, folder: Folder, *, expected_version: int) -> None:
        try:
            with translated():
                result = await FolderRecord.get_pymongo_collection().update_one(
                    {"_id": folder.id, "owner_id": folder.owner_id, "version": expected_version},
                    {"$set": folder.model_dump(include={"name", "version", "updated_at"})},
                )
        except DuplicateKeyError as cause:
            raise FolderExists from cause
        if not result.matched_count:
            raise PreconditionFailed

    async def remove(self, folder_id: str, owner_id: str) -> None:
        with translated():
            await FolderRecord.get_pymongo_collection().delete_one({"_id": folder_id, "owner_id": owner_id})

    async def with_source(self, owner_id: str, limit: int) -> Sequence[Folder]:
        query = {"owner_id": owner_id, "source": {"$ne": None}}
        with translated():
            rows = await FolderRecord.get_pymongo_collection().find(query).limit(limit).to_list()
        return [to_model(Folder, row) for row in rows]

    async def next_generation(self, folder: Folder) -> int:
        with translated():
            row = await FolderRecord.get_pymongo_collection().find_one_and_update(
                {"_id": folder.id, "owner_id": folder.owner_id},
                {"$inc": {"generation": 1}},
                return_document=ReturnDocument.AFTER,
            )
        if row is None:
            raise FolderNotFound
        return int(row["generation"])
