"""MongoDB: one client per process, one database per module, errors translated at the edge."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pymongo
from beanie import Document, init_beanie
from pydantic import BaseModel
from pymongo import DESCENDING, AsyncMongoClient, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    AutoReconnect,
    CollectionInvalid,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from core.errors import Unavailable
from core.paging import Page, Position

Row = dict[str, Any]
Client = AsyncMongoClient[Row]
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

NAMESPACE_EXISTS = 48
READ_MS = 2_000  # the longest that a list may take in the database
TRANSACTION_S = 5  # with all its repeats; the driver alone would go on for two minutes
ENDING_S = 1  # to abort it, or to learn of its commit, when that time is over


class Record(Document):
    """A Beanie document whose id is one of our own strings."""

    id: str  # type: ignore[assignment]


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
    rows: AsyncCollection[Row],
    work: Callable[[AsyncClientSession], Awaitable[T]],
    within_s: float = TRANSACTION_S,
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


def transient(error: BaseException) -> bool:
    """Whether the outcome is unknown and the same step may simply be repeated."""
    return isinstance(error, ConnectionFailure) or (isinstance(error, PyMongoError) and error.timeout)


async def page_of(
    rows: AsyncCollection[Row],
    query: Row,
    after: Position | None,
    limit: int,
    model: type[M],
    projection: Row | None = None,
) -> Page[M]:
    """One page, newest first. The bound on `created_at` alone is what the index seeks by."""
    if after is not None:
        behind = [{"created_at": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
        query = {**query, "created_at": {"$lte": after.created_at}, "$or": behind}
    with translated():
        cursor = rows.find(query, projection).sort([("created_at", DESCENDING), ("_id", DESCENDING)])
        found = await cursor.limit(limit + 1).max_time_ms(READ_MS).to_list()
    items = [to_model(model, row) for row in found[:limit]]
    more = len(found) > limit
    return Page(items, Position(found[limit - 1]["created_at"], found[limit - 1]["_id"]) if more else None)


def to_model(model: type[M], row: Row) -> M:
    """An entity from its stored form; `_id` is its `id`."""
    return model.model_validate({**row, "id": row["_id"]})
