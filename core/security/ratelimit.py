"""How often something may happen: GCRA in Redis, and in this process while Redis does not answer.

A bucket is one number: the time at which it will be empty again (TAT). Taking moves it one interval on; what would lie
more than `burst` intervals ahead is refused, and changes nothing.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog
from redis.exceptions import RedisError

from core.coalesce import PerTick
from core.redis import Commands, Script

T = TypeVar("T")

SECOND_US = 1_000_000
KNOWN_S, KNOWN_MAX = 30 * 24 * 3600, 20
MEMORY_KEYS = 10_000
PAUSE_S = 1.0  # how long Redis is not asked after it failed

SCRIPT = Script("""
-- KEYS: buckets.  ARGV: interval_us, burst, cost (1; -1 gives one back) of each
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local iv, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local waits = {}
for i, key in ipairs(KEYS) do
  local tat = math.max(tonumber(redis.call('GET', key) or now), now) + iv * cost
  local wait = tat - iv * burst - now
  waits[i] = 0
  if cost > 0 and wait > 0 then
    waits[i] = math.ceil(wait / 1000000)
  elseif tat <= now then
    redis.call('UNLINK', key)
  else
    -- tostring() would round 16 digits to 14
    redis.call('SET', key, string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
  end
end
return waits
""")

log = structlog.get_logger("security")


@dataclass(frozen=True)
class Rate:
    """`burst` at once, and one more after each interval."""

    burst: int
    interval_us: int

    @classmethod
    def every(cls, seconds: int, *, burst: int) -> "Rate":
        return cls(burst, seconds * SECOND_US)

    @classmethod
    def per_minute(cls, count: int, *, burst: int | None = None) -> "Rate":
        return cls(burst or count, max(60 * SECOND_US // count, 1))

    def wider(self, factor: int) -> "Rate":
        return Rate(self.burst * factor, max(self.interval_us // factor, 1))

    def shared_by(self, processes: int) -> "Rate":
        """What one of several processes may grant that know nothing of each other."""
        return Rate(max(self.burst // processes, 1), self.interval_us * processes)


class Buckets(Protocol):
    """Where buckets lie, and which networks an account was used from."""

    def take(self, key: str, rate: Rate) -> Awaitable[int]:
        """0, or refused: the whole seconds after which it would be granted."""

    async def give_back(self, key: str, rate: Rate) -> None: ...

    async def clear(self, key: str) -> None: ...

    async def knows(self, key: str, member: str) -> bool: ...

    async def learn(self, key: str, member: str) -> None: ...


class RedisBuckets:
    """Shared by all processes, on the time of Redis. Calls at one rate, in one turn of the loop, are one script."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._moves: dict[tuple[Rate, int], PerTick[str, int]] = {}  # few: rates come from settings

    def take(self, key: str, rate: Rate) -> Awaitable[int]:
        return self._move(key, rate, 1)

    async def give_back(self, key: str, rate: Rate) -> None:
        await self._move(key, rate, -1)

    async def clear(self, key: str) -> None:
        await self._commands("UNLINK", key)

    async def knows(self, key: str, member: str) -> bool:
        learnt = await self._commands("ZSCORE", key, member)
        return learnt is not None and float(learnt) > time.time() - KNOWN_S

    async def learn(self, key: str, member: str) -> None:
        await self._commands("ZADD", key, time.time(), member)
        await self._commands("ZREMRANGEBYRANK", key, 0, -KNOWN_MAX - 1)  # the longest unused go first
        await self._commands("EXPIRE", key, KNOWN_S)

    def _move(self, key: str, rate: Rate, cost: int) -> Awaitable[int]:
        moves = self._moves.get((rate, cost))
        if moves is None:
            args = (rate.interval_us, rate.burst, cost)
            moves = self._moves[rate, cost] = PerTick(lambda keys: self._commands.run(SCRIPT, keys, args))
        return moves(key)


class MemoryBuckets:
    """The same in this process: of the least recently used it forgets what is too many."""

    def __init__(self, now_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000) -> None:
        self._now_us, self._tats = now_us, OrderedDict[str, int]()

    async def take(self, key: str, rate: Rate) -> int:
        now = self._now_us()
        tat = max(self._tats.get(key, now), now) + rate.interval_us
        wait = tat - rate.interval_us * rate.burst - now
        if wait > 0:
            return -(-wait // SECOND_US)
        self._put(key, tat)
        return 0

    async def give_back(self, key: str, rate: Rate) -> None:
        now = self._now_us()
        self._put(key, max(self._tats.get(key, now), now) - rate.interval_us)

    async def clear(self, key: str) -> None:
        self._tats.pop(key, None)

    async def knows(self, key: str, member: str) -> bool:
        return self._tats.get(f"{key}:{member}", 0) > self._now_us()

    async def learn(self, key: str, member: str) -> None:
        self._put(f"{key}:{member}", self._now_us() + KNOWN_S * SECOND_US)

    def _put(self, key: str, tat: int) -> None:
        if tat <= self._now_us():
            self._tats.pop(key, None)
            return
        self._tats[key] = tat
        self._tats.move_to_end(key)
        if len(self._tats) > MEMORY_KEYS:
            self._tats.popitem(last=False)


class Limiter:
    """Buckets that always answer: Redis', or while it is silent this process' share of them.

    After a failure Redis is left alone for a moment, then one call tries; so a Redis that hangs costs one caller
    its time-out and not everybody.
    """

    def __init__(
        self,
        shared: Buckets,
        own: Buckets,
        secret: bytes,
        *,
        processes: int = 1,
        fell_back: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared, self._own, self._secret, self._processes = shared, own, secret, processes
        self._fell_back, self._clock = fell_back, clock
        self._is_away, self._ask_again_at = False, 0.0

    def key(self, bucket: str, *names: str) -> str:
        """The key of a bucket; what it is called after (addresses, networks) cannot be read from it."""
        return f"rl:{bucket}:{self.hidden(*names)}"

    def hidden(self, *names: str) -> str:
        return hmac.digest(self._secret, "\0".join(names).encode(), "sha256")[:16].hex()

    def take(self, key: str, rate: Rate) -> Coroutine[Any, Any, int]:
        """It is asked now, so that what is asked next shares the round trip; to be awaited in any case."""
        share = rate.shared_by(self._processes)
        return self._ask(lambda: self._shared.take(key, rate), lambda: self._own.take(key, share))

    async def give_back(self, key: str, rate: Rate) -> None:
        share = rate.shared_by(self._processes)
        await self._ask(lambda: self._shared.give_back(key, rate), lambda: self._own.give_back(key, share))

    async def clear(self, key: str) -> None:
        await self._ask(lambda: self._shared.clear(key), lambda: self._own.clear(key))

    async def knows(self, key: str, member: str) -> bool:
        return await self._ask(lambda: self._shared.knows(key, member), lambda: self._own.knows(key, member))

    async def learn(self, key: str, member: str) -> None:
        await self._ask(lambda: self._shared.learn(key, member), lambda: self._own.learn(key, member))

    def _ask(self, shared: Callable[[], Awaitable[T]], own: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        return self._answer(shared() if self._may_ask() else None, own)

    async def _answer(self, asked: Awaitable[T] | None, own: Callable[[], Awaitable[T]]) -> T:
        if asked is not None:
            try:
                answer = await asked
            except (RedisError, OSError) as error:
                if not self._is_away:
                    log.error("rate_limits_in_memory", error=type(error).__name__)
                self._is_away, self._ask_again_at = True, self._clock() + PAUSE_S
            else:
                self._is_away = False
                return answer
        self._fell_back()
        return await own()

    def _may_ask(self) -> bool:
        if not self._is_away:
            return True
        if self._clock() < self._ask_again_at:
            return False
        self._ask_again_at = self._clock() + PAUSE_S  # this caller tries, the others do not wait with it
        return True
