"""What Redis remembers of sessions: a copy of what MongoDB says, at most a minute old.

`session:<id>` holds the user's id while the session lives, or `ended` after its end. Redis only saves a read: when it
is silent, MongoDB is asked.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from app.users.domain.ports import ENDED
from core import metrics
from core.coalesce import PerTick
from core.redis import Breaker, Commands

log = structlog.get_logger("security")

LIFE_S = 60


class RedisSessionCache:
    """While the breaker is open everybody asks MongoDB."""

    def __init__(self, commands: Commands, now: Callable[[], float] = time.monotonic) -> None:
        self._commands, self._breaker = commands, Breaker("sessions", now)
        self._value = PerTick(self._values)

    async def find(self, session_id: str) -> str | None:
        if self._breaker.is_pausing():
            return None
        value = await self._breaker.ask(lambda: self._value(session_id))
        return value.decode() if value else None

    async def keep(self, session_id: str, user_id: str, seconds: float) -> None:
        milliseconds = int(min(seconds, LIFE_S) * 1000)
        if milliseconds > 0 and not self._breaker.is_pausing():
            await self._breaker.ask(lambda: self._commands("SET", _key(session_id), user_id, "NX", "PX", milliseconds))

    async def end(self, *session_ids: str) -> None:
        """Tried even during a pause: until an entry ends by itself, other processes would believe it."""
        if not session_ids:
            return
        told = [("SET", _key(session_id), ENDED, "EX", LIFE_S) for session_id in session_ids]
        if await self._breaker.ask(lambda: asyncio.gather(*(self._commands(*each) for each in told))) is None:
            metrics.session_ends_unseen.inc(len(session_ids))
            log.error("security", name="session_end_unseen", sessions=len(session_ids))

    async def _values(self, session_ids: Sequence[str]) -> Sequence[bytes | None]:
        values: list[bytes | None] = await self._commands("MGET", *map(_key, session_ids))
        return values


def _key(session_id: str) -> str:
    return f"session:{session_id}"
