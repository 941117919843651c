"""MongoDB: one client per process, one database per module, errors translated at the edge."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import Any, ClassVar, TypeVar

import pymongo
from beanie import Document, init_beanie
from pydantic import BaseModel
from pymongo import DESCENDING, AsyncMongoClient, ReturnDocument, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    AutoReconnect,
    CollectionInvalid,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from core.errors import NotFound, Unavailable
from core.paging import Page, Position

Row = dict[str, Any]
Client = AsyncMongoClient[Row]
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

NOW = "$$NOW"  # the database's clock, in pipelines and in `$expr`
NEWEST = [("created_at", DESCENDING), ("_id", DESCENDING)]  # ends the index behind a list
NAMESPACE_EXISTS = 48
READ_MS = 2_000  # the longest that a list may take in the database
TRANSACTION_S = 5  # with all its repeats; the driver alone would go on for two minutes
ENDING_S = 1  # to abort it, or to learn of its commit, when that time is over


class Record(Document):
    """A Beanie document whose id is one of our own strings."""

    id: str  # type: ignore[assignment]
    _naive: ClassVar[tuple[AsyncCollection[Row], AsyncCollection[Row]] | None] = None

    @classmethod
    def rows(cls) -> AsyncCollection[Row]:
        return cls.get_pymongo_collection()

    @classmethod
    def naive_rows(cls) -> AsyncCollection[Row]:
        """The same; times in them are UTC without saying so, which halves the decoding."""
        rows = cls.rows()
        if cls._naive is None or cls._naive[0] is not rows:
            naive = rows.codec_options.with_options(tz_aware=False, tzinfo=None)
            cls._naive = rows, rows.with_options(codec_options=naive)
        return cls._naive[1]


class MongoUnavailable(Unavailable):
    code = "dependency_unavailable"
    title = "The database cannot be reached"


class TransactionLate(MongoUnavailable):
    code = MongoUnavailable.code
    title = MongoUnavailable.title


def make_client(url: str, *, in_worker: bool) -> Client:
    """A client that has not connected yet; the API gives up sooner than a worker does."""
    limits: dict[str, Any] = (
        {"serverSelectionTimeoutMS": 30_000, "wTimeoutMS": 10_000}
        if in_worker
        else {"serverSelectionTimeoutMS": 5_000, "timeoutMS": 5_000}
    )
    return AsyncMongoClient(
        url, w="majority", journal=True, retryWrites=True, retryReads=True, connectTimeoutMS=3_000, tz_aware=True,
        **limits,
    )  # fmt: skip


async def init_records(
    client: Client, prefix: str, records: Mapping[str, Sequence[type[Document]]], *, build_indexes: bool
) -> None:
    """Binds each module's records to the database `<prefix>_<module>`; only `migrate` builds indexes."""
    for module, models in records.items():
        database = client[f"{prefix}_{module}"]
        with translated():
            for model in models if build_indexes else ():
                await _validate(database, model)
            await init_beanie(database=database, document_models=list(models), skip_indexes=not build_indexes)


async def _validate(database: AsyncDatabase[Row], model: type[Document]) -> None:
    """Sets the validator that a record declares, the backstop behind its conditional updates.

    A new collection is created with it, which takes no more than write access; a changed one asks for `collMod`.
    """
    settings: Any = model.Settings
    wanted = getattr(settings, "validator", None)
    if wanted is None:
        return
    known = await (await database.list_collections(filter={"name": settings.name})).to_list()
    if not known:
        try:
            await database.create_collection(settings.name, validator=wanted)
        except (CollectionInvalid, OperationFailure) as error:
            if getattr(error, "code", NAMESPACE_EXISTS) != NAMESPACE_EXISTS:
                raise  # else another process starts at the same time, and has made the same
    elif known[0]["options"].get("validator") != wanted:
        await database.command({"collMod": settings.name, "validator": wanted})


@contextmanager
def translated() -> Iterator[None]:
    """Raises MongoUnavailable for what a repeat may cure; everything else stays as it is."""
    try:
        yield
    except (AutoReconnect, ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError) as cause:
        raise MongoUnavailable from cause
    except PyMongoError as cause:
        if cause.timeout:
            raise MongoUnavailable from cause
        raise


async def in_transaction(
    rows: AsyncCollection[Row], work: Callable[[AsyncClientSession], Awaitable[T]], within_s: float = TRANSACTION_S
) -> T:
    """All of it or nothing; `work` runs again when it met another writer. Raises MongoUnavailable.

    TransactionLate when time is over: nobody knows whether it took effect. The driver's own deadline would cut off the
    abort as well, and the rows would stay locked for a minute.
    """

    async def attempt(session: AsyncClientSession) -> T:
        try:
            return await work(session)
        except BaseException:
            with suppress(PyMongoError), pymongo.timeout(ENDING_S):
                await session.abort_transaction()
            raise

    with translated():
        async with rows.database.client.start_session() as session:
            try:
                async with asyncio.timeout(within_s):
                    return await session.with_transaction(attempt, ReadConcern("snapshot"), WriteConcern("majority"))
            except TimeoutError as cause:
                with suppress(PyMongoError), pymongo.timeout(ENDING_S):
                    await session.commit_transaction()  # one that was cut off; after an abort it does nothing
                raise TransactionLate from cause


def later(seconds: float) -> Row:
    """So long from now on the database's clock."""
    return {"$add": [NOW, round(seconds * 1000)]}


async def insert_new(rows: AsyncCollection[Row], entity: BaseModel) -> bool:
    """False where a unique index has one like it already, which another run of the same command may have made."""
    try:
        with translated():
            await rows.insert_one(to_row(entity))
    except DuplicateKeyError:
        return False
    return True


async def find_one(rows: AsyncCollection[Row], query: Row, model: type[M], **options: Any) -> M | None:
    with translated():
        row = await rows.find_one(query, **options)
    return None if row is None else to_model(model, row)


async def get_one(rows: AsyncCollection[Row], query: Row, model: type[M], missing: type[NotFound]) -> M:
    """Raises `missing` where nothing fits."""
    entity = await find_one(rows, query, model)
    if entity is None:
        raise missing
    return entity


async def change_one(
    rows: AsyncCollection[Row], query: Row, update: Row | list[Row], model: type[M], **options: Any
) -> M | None:
    """The entity after one conditional update; None where the condition does not hold."""
    with translated():
        row = await rows.find_one_and_update(query, update, return_document=ReturnDocument.AFTER, **options)
    return None if row is None else to_model(model, row)


async def page_of(
    rows: AsyncCollection[Row], query: Row, after: Position | None, limit: int, model: type[M]
) -> Page[M]:
    """One page, newest first."""
    page = await _page(rows, query, after, limit, None)
    return Page([to_model(model, row) for row in page.items], page.next)


async def rows_page(
    rows: AsyncCollection[Row], query: Row, after: Position | None, limit: int, fields: Sequence[str]
) -> Page[Row]:
    """The same as stored rows of these fields; `rows` are naive ones."""
    shown = dict.fromkeys([*fields, "created_at"], True)
    page = await _page(rows, query, after, limit, shown)
    position = Position(page.next.created_at.replace(tzinfo=UTC), page.next.id) if page.next else None
    return Page(page.items, position)


async def _page(
    rows: AsyncCollection[Row], query: Row, after: Position | None, limit: int, projection: Row | None
) -> Page[Row]:
    if after is not None:  # the bound on `created_at` alone is what the index seeks by
        behind = [{"created_at": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
        query = {**query, "created_at": {"$lte": after.created_at}, "$or": behind}
    with translated():
        cursor = rows.find(query, projection).sort(NEWEST).limit(limit + 1)
        found = await cursor.max_time_ms(READ_MS).to_list()
    last = found[limit - 1] if len(found) > limit else None
    return Page(found[:limit], Position(last["created_at"], last["_id"]) if last else None)


def to_row(entity: BaseModel) -> Row:
    """The stored form of an entity."""
    content = entity.model_dump()
    return {"_id": content.pop("id"), **content}


def to_model(model: type[M], row: Row) -> M:
    """An entity from its stored form; `_id` is its `id`."""
    return model.model_validate({**row, "id": row["_id"]})
