"""MongoDB without a server: mongomock-motor behind the interface of PyMongo's async client that Beanie 2 uses."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import mongomock
from bson import CodecOptions
from mongomock_motor import AsyncMongoMockClient
from pymongo import IndexModel, InsertOne
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.results import BulkWriteResult

mongomock.utcnow = lambda: datetime.now(UTC).replace(tzinfo=None)  # type: ignore[attr-defined] # its own one warns


class MockClient:
    """As much of AsyncMongoClient as the repositories of the server-free tier touch."""

    def __init__(self) -> None:
        self._client: Any = AsyncMongoMockClient(tz_aware=True)
        self.admin = self

    def __getitem__(self, name: str) -> "_Database":
        return _Database(self._client[name])

    async def command(self, *_: Any) -> dict[str, Any]:
        return {"ok": 1.0}

    async def close(self) -> None:
        """Nothing is open."""


class _Database:
    def __init__(self, database: Any) -> None:
        self._database = database

    def __getitem__(self, name: str) -> "_Collection":
        return _Collection(self._database[name])

    def get_collection(self, name: str, **_: Any) -> "_Collection":
        return self[name]

    async def command(self, *_: Any) -> dict[str, Any]:
        return {"ok": 1.0, "version": "6.0.0"}

    async def list_collections(self, **_: Any) -> "_Listed":
        return _Listed()

    async def create_collection(self, name: str, **_: Any) -> None:
        """Mongomock makes it on the first write, and knows no validators."""

    async def list_collection_names(self, **_: Any) -> list[str]:
        names: list[str] = await self._database.list_collection_names()
        return names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


class _Listed:
    async def to_list(self) -> list[dict[str, Any]]:
        return []


class _Collection:
    def __init__(self, collection: Any) -> None:
        self._collection = collection

    codec_options: Any = CodecOptions()

    def with_options(self, **_: Any) -> "_Collection":
        return self

    async def create_indexes(self, indexes: Sequence[IndexModel], **_: Any) -> list[str]:
        """One by one: mongomock's own forgets which rows a partial index holds."""
        names: list[str] = []
        for index in indexes:
            told = {name: value for name, value in index.document.items() if name != "key"}
            names.append(await self._collection.create_index(list(index.document["key"].items()), **told))
        return names

    def find(self, *args: Any, **options: Any) -> "_Cursor":
        return _Cursor(self._collection.find(*args, **options))

    async def aggregate(self, *args: Any, **options: Any) -> "_Cursor":
        return _Cursor(self._collection.aggregate(*args, **options))

    async def bulk_write(self, operations: Sequence[Any], *, ordered: bool) -> BulkWriteResult:
        """Unordered, one by one; mongomock's own does not know the operations of this PyMongo."""
        assert not ordered
        inserted, matched, errors = 0, 0, []
        for index, operation in enumerate(operations):
            try:
                if isinstance(operation, InsertOne):
                    await self._collection.insert_one(operation._doc)
                    inserted += 1
                else:
                    result = await self._collection.update_one(operation._filter, operation._doc, operation._upsert)
                    matched += result.matched_count
            except DuplicateKeyError as error:
                errors.append({"index": index, "code": error.code})
        counts = {"nInserted": inserted, "nMatched": matched, "writeErrors": errors}
        if errors:
            raise BulkWriteError(counts)
        return BulkWriteResult(counts, acknowledged=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


class _Cursor:
    """Motor's `to_list` wants a length, PyMongo's does not; mongomock knows no time limit."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def sort(self, *args: Any) -> "_Cursor":
        return _Cursor(self._cursor.sort(*args))

    def limit(self, count: int) -> "_Cursor":
        return _Cursor(self._cursor.limit(count))

    def max_time_ms(self, _: int) -> "_Cursor":
        return self

    async def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._cursor.to_list(length)
        return rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
