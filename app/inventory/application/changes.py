"""How stock is changed: a few at a time, once for each command, and with what is overdue given back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TypeVar

from app.inventory.domain.errors import CommandDone, InsufficientStock
from app.inventory.domain.ports import Reservations
from app.inventory.domain.stock import Command
from core.errors import Overloaded

T = TypeVar("T")

PLACES, WAIT_S = 32, 3


class Changes:
    """More at a time would queue for connections, each step of a transaction behind the steps of all others."""

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations
        self._places = asyncio.Semaphore(PLACES)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises Overloaded."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._places.acquire()
        except TimeoutError as cause:
            raise Overloaded from cause
        try:
            yield
        finally:
            self._places.release()

    async def once(
        self, command: Command, find: Callable[[str], Awaitable[T | None]], act: Callable[[], Awaitable[T]]
    ) -> T:
        """What the command did if it was run before. That is looked for ahead of any guard: it may have used all up."""
        async with self.turn():
            if not command.repeatable:
                return await act()
            found = await find(command.id)
            if found is not None:
                return found
            try:
                return await act()
            except (InsufficientStock, CommandDone):
                found = await find(command.id)  # the first run may also end while this one is at work
                if found is None:
                    raise
                return found

    async def with_what_expired(self, level_ids: Collection[str], act: Callable[[], Awaitable[T]]) -> T:
        """Acts; where stock does not suffice, overdue reservations are ended and it is tried once more."""
        try:
            return await act()
        except InsufficientStock:
            await self._reservations.expire_due(level_ids)
        return await act()  # also where nothing was due: somebody else may just have ended it
