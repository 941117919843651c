"""Keeping a lease while something that is longer than it goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from core.errors import Unavailable


@asynccontextmanager
async def renewed(every_s: float, renew: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """What fails to be renewed once is renewed the next time, as long as the lease has not run out."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(every_s)
            with suppress(Unavailable):
                await renew()

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
