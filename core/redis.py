"""Redis: quick to give up, since it only remembers and counts."""

import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from core.coalesce import PerTick

FAILURES, PAUSE_S = 3, 5.0

log = structlog.get_logger("redis")


def make_redis(url: str) -> Redis:
    """A client that has not connected yet. Without `retry` redis-py repeats three times by itself.

    A crowd waits for one of a few connections: redis-py's usual pool would refuse it with an error, and to open one
    for each would take longer than what they came for.
    """
    pool = BlockingConnectionPool.from_url(
        url, max_connections=32, timeout=0.5,
        socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0),
    )  # fmt: skip
    return Redis.from_pool(pool)


class Script:
    """A Lua script, called by the digest that Redis names it by."""

    def __init__(self, text: str) -> None:
        self.text, self.digest = text, sha1(text.encode(), usedforsecurity=False).hexdigest()


class Commands:
    """Single commands; those of one turn of the event loop share a round trip."""

    def __init__(self, redis: Redis) -> None:
        self._redis, self._answer = redis, PerTick(self._send)

    async def __call__(self, *command: Any) -> Any:
        answer = await self._answer(command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await self("EVALSHA", script.digest, len(keys), *keys, *args)
        except NoScriptError:
            return await self("EVAL", script.text, len(keys), *keys, *args)  # which makes it known

    async def _send(self, commands: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)


class Breaker:
    """For what is known elsewhere too: after three failures in a row Redis is left alone for five seconds.

    Each failure costs a request a quarter of one.
    """

    def __init__(self, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self._name, self._now = name, now
        self._failures, self._again_at = 0, 0.0

    def is_pausing(self) -> bool:
        if self._failures < FAILURES:
            return False
        if self._now() < self._again_at:
            return True
        self._again_at = self._now() + PAUSE_S  # this one asks, on behalf of all
        return False

    async def ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """None also when Redis did not answer."""
        try:
            answer = await command()
        except (RedisError, OSError) as error:
            self._failures += 1
            if self._failures >= FAILURES:
                self._again_at = self._now() + PAUSE_S
            if self._failures == FAILURES:
                log.warning("redis_paused", use=self._name, error=type(error).__name__)
            return None
        self._failures = 0
        return answer
