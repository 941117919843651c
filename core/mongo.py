"""MongoDB: one client per process, one database per module, errors translated at the edge."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from beanie import Document, init_beanie
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, ConnectionFailure, ExecutionTimeout, NetworkTimeout, PyMongoError, WTimeoutError

from core.errors import Unavailable

Row = dict[str, Any]
Client = AsyncMongoClient[Row]


class MongoUnavailable(Unavailable):
    code = "dependency_unavailable"
    title = "The database cannot be reached"


def make_client(url: str, *, in_worker: bool) -> Client:
    """A client that has not connected yet; the API gives up sooner than a worker does."""
    limits: dict[str, int] = (
        {"serverSelectionTimeoutMS": 30_000, "wTimeoutMS": 10_000}
        if in_worker
        else {"serverSelectionTimeoutMS": 5_000, "timeoutMS": 5_000}
    )
    return AsyncMongoClient(
        url, w="majority", journal=True, retryWrites=True, retryReads=True, connectTimeoutMS=3_000, tz_aware=True,
        **limits,
    )  # fmt: skip


async def init_records(
    client: Client, prefix: str, records: dict[str, Sequence[type[Document]]], *, build_indexes: bool
) -> None:
    """Binds each module's records to the database `<prefix>_<module>`; only `migrate` builds indexes."""
    for module, models in records.items():
        with translated():
            await init_beanie(
                database=client[f"{prefix}_{module}"], document_models=list(models), skip_indexes=not build_indexes
            )


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


def transient(error: BaseException) -> bool:
    """Whether the outcome is unknown and the same step may simply be repeated."""
    return isinstance(error, ConnectionFailure) or (isinstance(error, PyMongoError) and error.timeout)


