"""What Redis remembers of sessions: a copy of what MongoDB says, at most a minute old.

`session:<id>` holds the user's id while the session lives, or `ended` after its end. Redis only saves a read: when it
is silent, MongoDB is asked.
"""

import time
from collections.abc import Callable

import structlog
from redis.asyncio import Redis

from app.users.domain.ports import ENDED
from core import metrics
from core.redis import Breaker

log = structlog.get_logger("security")

LIFE_S = 60


class RedisSessionCache:
    """While the breaker is open everybody asks MongoDB."""

    def __init__(self, redis: Redis, now: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._breaker = redis, Breaker("sessions", now)

    async def find(self, session_id: str) -> str | None:
        if self._breaker.is_pausing():
            return None
        value = await self._breaker.ask(lambda: self._redis.get(_key(session_id)))
        return value.decode() if value else None

    async def keep(self, session_id: str, user_id: str, seconds: float) -> None:
        milliseconds = int(min(seconds, LIFE_S) * 1000)
        if milliseconds > 0 and not self._breaker.is_pausing():
            await self._breaker.ask(lambda: self._redis.set(_key(session_id), user_id, nx=True, px=milliseconds))

    async def end(self, *session_ids: str) -> None:
        """Tried even during a pause: until an entry ends by itself, other processes would believe it."""
        if not session_ids:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.set(_key(session_id), ENDED, ex=LIFE_S)
        if await self._breaker.ask(pipeline.execute) is None:
            metrics.session_ends_unseen.inc(len(session_ids))
            log.error("security", name="session_end_unseen", sessions=len(session_ids))


def _key(session_id: str) -> str:
    return f"session:{session_id}"
