"""Copies in Redis of what MongoDB says: they save a read, may be lost at any time, and are never put back stale.

Each copy has tags, and each tag a version that nobody can guess. A copy carries the versions that its tags had
**before** its value was read, and counts only while they are the same: what is dropped is the version, so that whoever
was reading meanwhile writes a copy that nobody believes.
"""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from core import metrics
from core.ids import random_token
from core.redis import Breaker, Commands, Script

M = TypeVar("M", bound=BaseModel)
Name = tuple[str, ...]

LONGEST = 200
TAG_LIVES = 10  # as long as so many copies: a tag that is forgotten costs a miss

SCRIPT = Script("""
-- KEYS: the copy, its tags.  ARGV: a fresh version, seconds that a tag is remembered
local versions = redis.call('MGET', unpack(KEYS, 2))
for i = 1, #KEYS - 1 do
  if not versions[i] then
    versions[i] = ARGV[1]
    redis.call('SET', KEYS[i + 1], ARGV[1], 'EX', ARGV[2])
  end
end
local stamp = table.concat(versions, ' ') .. '\\n'
local copy = redis.call('GET', KEYS[1])
if copy and string.sub(copy, 1, #stamp) == stamp then return {stamp, string.sub(copy, #stamp + 1)} end
return {stamp}
""")


class Cache:
    """Without Redis every read is a miss."""

    def __init__(self, commands: Commands, *, prefix: str, ttl_s: int) -> None:
        """`prefix`: what sets this deployment apart. `ttl_s`: how long a copy lives; 0 = there are none."""
        self._commands, self._prefix, self._ttl_s = commands, prefix, ttl_s
        self._breaker = Breaker("cache")

    async def get(self, model: type[M], name: Name, tags: Sequence[Name], load: Callable[[], Awaitable[M]]) -> M:
        """The copy of this name, or what `load` reads, of which one is kept until one of its tags is dropped."""
        if not self._ttl_s or self._breaker.is_pausing():
            return await load()
        key = self._key("copy", name)
        keys = [key, *(self._key("tag", tag) for tag in tags)]
        args = (random_token(), TAG_LIVES * self._ttl_s)
        stamp, *copies = await self._breaker.ask(lambda: self._commands.run(SCRIPT, keys, args)) or (None,)
        for copy in copies:
            try:
                value = model.model_validate_json(copy)
            except ValidationError:  # an earlier version of ours wrote it
                continue
            metrics.cache_reads.labels("hit").inc()
            return value
        metrics.cache_reads.labels("miss").inc()
        value = await load()
        if stamp is not None:
            kept = stamp + value.model_dump_json().encode()
            await self._breaker.ask(lambda: self._commands("SET", key, kept, "EX", self._ttl_s))
        return value

    async def drop(self, *tags: Name) -> None:
        """After every change, also where nobody knows whether it took effect; tried even while the breaker is open.

        Where Redis does not answer, others may read the copies that are there until their time is over.
        """
        if not self._ttl_s:
            return
        keys = {self._key("tag", tag) for tag in tags}
        if await self._breaker.ask(lambda: self._commands("UNLINK", *keys)) is None:
            metrics.cache_drops_unseen.inc(len(keys))

    def _key(self, kind: str, name: Name) -> str:
        """What clients sent stays one part of it, however it looks."""
        parts = ":".join(quote(part, safe="") for part in name)
        short = parts if len(parts) <= LONGEST else f"{quote(name[0])}:{sha256(parts.encode()).hexdigest()}"
        return f"{self._prefix}:cache:{kind}:{short}"
