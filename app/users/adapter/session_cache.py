"""What Redis remembers of sessions: a copy of what MongoDB says, at most a minute old.

`session:<id>` holds the user's id while the session lives, or `ended` after its end. Redis only saves a read: when it
is silent, MongoDB is asked.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.users.domain.ports import ENDED
from core import metrics

log = structlog.get_logger("security")

LIFE_S = 60
FAILURES, PAUSE_S = 3, 5.0


class RedisSessionCache:
    """After three failures in a row Redis is left alone for five seconds: each costs a request a quarter of one."""

    def __init__(self, redis: Redis, now: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._now = redis, now
        self._failures, self._again_at = 0, 0.0

    async def find(self, session_id: str) -> str | None:
        if self._is_pausing():
            return None
        value = await self._ask(lambda: self._redis.get(_key(session_id)))
        return value.decode() if value else None

    async def keep(self, session_id: str, user_id: str, seconds: float) -> None:
        milliseconds = int(min(seconds, LIFE_S) * 1000)
        if milliseconds > 0 and not self._is_pausing():
            await self._ask(lambda: self._redis.set(_key(session_id), user_id, nx=True, px=milliseconds))

    async def end(self, *session_ids: str) -> None:
        """Tried even during a pause: until an entry ends by itself, other processes would believe it."""
        if not session_ids:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.set(_key(session_id), ENDED, ex=LIFE_S)
        if await self._ask(pipeline.execute) is None:
            metrics.session_ends_unseen.inc(len(session_ids))
            log.error("security", name="session_end_unseen", sessions=len(session_ids))

    def _is_pausing(self) -> bool:
        if self._failures < FAILURES:
            return False
        if self._now() < self._again_at:
            return True
        self._again_at = self._now() + PAUSE_S  # this one asks, on behalf of all
        return False

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """None also when Redis did not answer."""
        try:
            answer = await command()
        except (RedisError, OSError) as error:
            self._failures += 1
            if self._failures >= FAILURES:
                self._again_at = self._now() + PAUSE_S
            if self._failures == FAILURES:
                log.warning("session_cache_paused", error=type(error).__name__)
            return None
        self._failures = 0
        return answer


def _key(session_id: str) -> str:
    return f"session:{session_id}"
