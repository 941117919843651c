"""Opening and closing what a process holds, in a fixed order; the same for API and worker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager

from app.container import Container
from app.modules import selected
from core.mongo import init_records, translated


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
    """Collections and indexes, built in this one place. Harmless when repeated."""
    settings = container.settings()
    records = {name: module.records() for name, module in selected(settings).items()}
    await init_records(container.mongo(), settings.mongo_db, records, build_indexes=True)
