"""So many of a kind at a time: whoever finds no place waits, unread, and is then told to come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.errors import Overloaded

DOWNLOADS, DOWNLOAD_WAIT_S = 32, 20  # twice the threads that read from S3; less than the time to begin an answer


class Gate:
    def __init__(self, places: int, wait_s: float) -> None:
        self._free, self._wait_s = asyncio.Semaphore(places), wait_s
        self.places, self.taken = places, 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises Overloaded."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError as cause:
            raise Overloaded from cause
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._free.release()
