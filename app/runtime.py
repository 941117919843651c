"""Opening and closing what a process holds, in a fixed order; the same for API and worker."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import MappingProxyType

from pymongo.errors import OperationFailure

from app.container import Container
from app.modules import selected
from core.exits import CannotGoOn
from core.mongo import init_records, translated

REMEDIES: Mapping[int, str] = MappingProxyType(
    {
        13: "give its user readWrite and collMod there",
        85: "drop the index that is in its way",
        86: "drop the index that is in its way",
        11000: "remove the duplicates",
    }
)


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[Container]:
    """Everything connected and checked; closed in reverse order. Raises Unavailable when MongoDB does not answer."""
    settings = container.settings()
    modules = selected(settings)
    async with AsyncExitStack() as stack:
        mongo = container.mongo()
        stack.push_async_callback(mongo.close)
        redis = container.redis()
        stack.push_async_callback(redis.aclose)
        opening: list[Awaitable[object]] = [mongo.admin.command("ping")]
        if settings.needs_storage:
            files = container.files()
            stack.push_async_callback(files.close)
            opening.append(files.open())
        stack.push_async_callback(container.broker().close)
        wake_ups = container.wake_ups()
        stack.callback(wake_ups.close)
        passwords = container.passwords()
        stack.callback(passwords.close)
        with translated():
            await asyncio.gather(*opening)
        records = {name: module.records() for name, module in modules.items()}
        await init_records(mongo, settings.mongo_db, records, build_indexes=False)
        for module in modules.values():
            if module.background is not None:
                await stack.enter_async_context(module.background(container))
        yield container


async def migrate(container: Container) -> None:
    """Collections and indexes, built in this one place. Harmless when repeated. Raises CannotGoOn and Unavailable."""
    settings = container.settings()
    build = partial(init_records, container.mongo(), settings.mongo_db, build_indexes=True)
    records = {name: module.records() for name, module in selected(settings).items()}
    try:
        await build(records)
    except OperationFailure:  # once more, one by one: it does not say where it was
        for name, record in ((name, record) for name, found in records.items() for record in found):
            try:
                await build({name: [record]})
            except OperationFailure as error:
                collection = f"{settings.mongo_db}_{name}.{record.get_collection_name()}"
                raise CannotGoOn(_refusal(collection, error)) from error


def _refusal(collection: str, error: OperationFailure) -> str:
    """MongoDB's own words quote rows, so only the names in them are taken."""
    index = re.search(r"(?:index: |name: \"?)([A-Za-z_][\w.-]*)", str(error))
    what = f"the index {index[1]}" if index else "the collection"
    reason = (error.details or {}).get("codeName", f"code {error.code}")
    remedy = REMEDIES.get(error.code or 0, "put the cause right")
    return f"{collection}: MongoDB refuses {what} ({reason}); {remedy}, then migrate again"
