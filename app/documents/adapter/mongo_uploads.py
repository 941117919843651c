"""Direct uploads in the collection `uploads`."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from app.documents.domain.direct_upload import DirectUpload
from app.documents.domain.errors import UploadNotFound
from app.documents.domain.processors import RefusalCode
from core.mongo import Record, Row, get_one, insert_new, to_model, translated


class UploadRecord(DirectUpload, Record):
    class Settings:
        name = "uploads"
        # Not a TTL: it owns objects, which would be left behind.
        indexes: ClassVar = [IndexModel([("expires_at", ASCENDING)], name="expired")]


class MongoDirectUploads:
    """Each step one conditional update: only an open upload changes."""

    async def add(self, upload: DirectUpload) -> DirectUpload:
        is_new = await insert_new(UploadRecord.rows(), upload)
        return upload if is_new else await self.get(upload.id, upload.owner_id)

    async def get(self, upload_id: str, owner_id: str) -> DirectUpload:
        query = {"_id": upload_id, "owner_id": owner_id, "state": {"$ne": "aborted"}}
        return await get_one(UploadRecord.rows(), query, DirectUpload, UploadNotFound)

    async def begin_parts(self, upload_id: str, parts_id: str) -> DirectUpload:
        await self._change({"_id": upload_id, "parts_id": None}, {"parts_id": parts_id})
        return await get_one(UploadRecord.rows(), {"_id": upload_id}, DirectUpload, UploadNotFound)

    async def complete(self, upload_id: str) -> None:
        await self._change({"_id": upload_id}, {"state": "completed"})

    async def refuse(self, upload_id: str, refusal: RefusalCode) -> None:
        await self._change({"_id": upload_id}, {"state": "refused", "refusal": refusal})

    async def abort(self, upload_id: str, owner_id: str, until: datetime) -> None:
        await self._change({"_id": upload_id, "owner_id": owner_id}, {"state": "aborted", "expires_at": until})

    async def expired(self, now: datetime, limit: int) -> Sequence[DirectUpload]:
        with translated():
            cursor = UploadRecord.rows().find({"expires_at": {"$lte": now}}).sort("expires_at", ASCENDING)
            return [to_model(DirectUpload, row) for row in await cursor.limit(limit).to_list()]

    async def purge(self, upload_id: str) -> None:
        with translated():
            await UploadRecord.rows().delete_one({"_id": upload_id})

    async def known(self, upload_ids: Collection[str]) -> Mapping[str, DirectUpload]:
        with translated():
            rows = await UploadRecord.rows().find({"_id": {"$in": list(upload_ids)}}).to_list()
        return {row["_id"]: to_model(DirectUpload, row) for row in rows}

    async def _change(self, query: Row, update: Row) -> None:
        with translated():
            await UploadRecord.rows().update_one({**query, "state": "open"}, {"$set": update})
