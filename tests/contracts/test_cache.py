"""Copies on real Redis: never stale after a drop, whatever was being read, and no error when Redis is gone."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pydantic import BaseModel
from redis.asyncio import Redis

from core import redis as core_redis
from core.cache import LONGEST, Cache, Name
from core.ids import random_token
from core.local.stack import LocalServers
from core.redis import Commands, make_redis
from tests.integration.running import free_port

ITEM: Name = ("item", "1")
ALL: Name = ("items",)


class Value(BaseModel):
    n: int
    text: str = ""


class Source:
    """What the copies are of; counts how often it was read."""

    def __init__(self, n: int = 0) -> None:
        self.n, self.reads = n, 0

    async def load(self) -> Value:
        self.reads += 1
        return Value(n=self.n)


@pytest.fixture
async def redis(servers: LocalServers) -> AsyncIterator[Redis]:
    client = make_redis(servers.redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def prefix() -> str:
    return f"t{random_token(48)}"


@pytest.fixture
def cache(redis: Redis, prefix: str) -> Cache:
    return Cache(Commands(redis), prefix=prefix, ttl_s=30)


def read(cache: Cache, load: Callable[[], Awaitable[Value]], *tags: Name) -> Awaitable[Value]:
    return cache.get(Value, ITEM, tags or (ITEM, ALL), load)


async def test_a_value_is_read_once_and_then_copied(cache: Cache) -> None:
    source = Source(7)
    assert [(await read(cache, source.load)).n for _ in range(5)] == [7] * 5
    assert source.reads == 1


@pytest.mark.parametrize("tag", [ITEM, ALL])
async def test_each_tag_takes_its_copies_away(cache: Cache, tag: Name) -> None:
    source, other = Source(1), Source(10)
    await read(cache, source.load)
    await cache.get(Value, ("item", "2"), (("item", "2"), ALL), other.load)
    source.n = 2
    await cache.drop(tag)
    assert (await read(cache, source.load)).n == 2
    await cache.get(Value, ("item", "2"), (("item", "2"), ALL), other.load)
    assert other.reads == (2 if tag == ALL else 1)


@pytest.mark.parametrize("warm", [False, True])
async def test_whoever_was_reading_during_a_change_puts_nothing_stale_back(cache: Cache, warm: bool) -> None:
    source, has_read, go_on = Source(1), asyncio.Event(), asyncio.Event()
    if warm:
        await read(cache, source.load)
        await cache.drop(ITEM)

    async def slow() -> Value:
        value = await source.load()
        has_read.set()
        await go_on.wait()
        return value

    reader = asyncio.ensure_future(read(cache, slow))
    await has_read.wait()
    source.n = 2
    await cache.drop(ITEM)
    assert (await read(cache, source.load)).n == 2  # a fresh copy is there before the old one is written
    go_on.set()
    assert (await reader).n == 1  # it asked before the change
    assert (await read(cache, source.load)).n == 2
    await cache.drop(ITEM)
    assert (await read(cache, source.load)).n == 2


async def test_readers_and_writers_at_random_never_see_what_was_dropped(cache: Cache) -> None:
    source, floor = Source(), 0

    async def write() -> None:
        nonlocal floor
        for n in range(1, 100):
            source.n = n
            await asyncio.sleep(0)
            await cache.drop(ITEM)
            floor = n

    async def look() -> None:
        while floor < 99:
            at_least = floor

            async def slow() -> Value:
                value = await source.load()
                await asyncio.sleep(0.001 * (value.n % 3))
                return value

            assert (await read(cache, slow)).n >= at_least

    await asyncio.gather(write(), *(look() for _ in range(8)))
    assert (await read(cache, source.load)).n == 99


async def test_a_forgotten_tag_is_a_miss_and_nothing_old_comes_back(cache: Cache, redis: Redis, prefix: str) -> None:
    source = Source(1)
    await read(cache, source.load)
    kept = {key: await redis.get(key) for key in await redis.keys(f"{prefix}:*")}
    await redis.delete(*[key for key in kept if b":tag:" in key])
    source.n = 2
    assert (await read(cache, source.load)).n == 2
    copy = next(key for key in kept if b":copy:" in key)
    await redis.set(copy, kept[copy] or b"")
    assert (await read(cache, source.load)).n == 2


async def test_everything_ends_by_itself(redis: Redis, prefix: str) -> None:
    cache, source = Cache(Commands(redis), prefix=prefix, ttl_s=1), Source(1)
    await read(cache, source.load)
    for key in await redis.keys(f"{prefix}:*"):
        assert 0 < await redis.ttl(key) <= 10
    source.n, deadline = 2, time.monotonic() + 5
    while (await read(cache, source.load)).n == 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_failed_load_leaves_nothing(cache: Cache) -> None:
    async def fails() -> Value:
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            await read(cache, fails)
    assert (await read(cache, Source(3).load)).n == 3


async def test_a_copy_of_another_version_of_ours_is_a_miss(cache: Cache, redis: Redis, prefix: str) -> None:
    class Older(BaseModel):
        m: str

    async def load() -> Older:
        return Older(m="x")

    await cache.get(Older, ITEM, (ITEM, ALL), load)
    assert (await read(cache, Source(4).load)).n == 4


async def test_names_do_not_run_into_each_other(cache: Cache, redis: Redis, prefix: str) -> None:
    names = [
        ("a", "b:c"),
        ("a:b", "c"),
        ("a", "b", "c"),
        ("a", "%3A"),
        ("a", "x" * 9000),
        ("a", "x" * 9001),
        ("a", "é\n*"),
    ]
    for n, name in enumerate(names):
        assert (await cache.get(Value, name, (name,), Source(n).load)).n == n
    assert [(await cache.get(Value, name, (name,), Source(-1).load)).n for name in names] == list(range(len(names)))
    assert all(len(key) < LONGEST + 50 for key in await redis.keys(f"{prefix}:*"))


async def test_deployments_that_share_a_redis_do_not_share_copies(redis: Redis, cache: Cache, prefix: str) -> None:
    other = Cache(Commands(redis), prefix=f"{prefix}-other", ttl_s=30)
    assert [(await read(each, Source(n).load)).n for n, each in enumerate((cache, other))] == [0, 1]


async def test_switched_off_redis_is_not_asked(redis: Redis, prefix: str) -> None:
    cache, source = Cache(Commands(redis), prefix=prefix, ttl_s=0), Source(1)
    for _ in range(3):
        await read(cache, source.load)
    await cache.drop(ITEM)
    assert source.reads == 3
    assert await redis.keys(f"{prefix}:*") == []


async def test_without_redis_everything_is_read_and_soon_nobody_waits(prefix: str) -> None:
    nowhere = make_redis(f"redis://127.0.0.1:{free_port()}")
    cache, source = Cache(Commands(nowhere), prefix=prefix, ttl_s=30), Source(1)
    for _ in range(5):
        assert (await read(cache, source.load)).n == 1
        await cache.drop(ITEM)
    assert source.reads == 5
    await nowhere.aclose()


async def test_a_silent_redis_costs_a_few_readers_a_quarter_of_a_second(prefix: str) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    silent = make_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    cache, source = Cache(Commands(silent), prefix=prefix, ttl_s=30), Source(1)
    started = time.perf_counter()
    for _ in range(50):
        assert (await read(cache, source.load)).n == 1
    seconds = time.perf_counter() - started
    assert core_redis.FAILURES * 0.25 <= seconds < core_redis.FAILURES * 0.25 + 2
    await silent.aclose()
    server.close()
    await server.wait_closed()


async def test_the_breaker_lets_one_ask_after_its_pause() -> None:
    now = [0.0]
    breaker, asked = core_redis.Breaker("test", lambda: now[0]), []

    async def fails() -> None:
        asked.append(now[0])
        raise ConnectionError

    async def answers() -> int:
        return 1

    for _ in range(10):
        if not breaker.is_pausing():
            assert await breaker.ask(fails) is None
    assert len(asked) == core_redis.FAILURES
    now[0] = core_redis.PAUSE_S + 0.1
    assert [breaker.is_pausing() for _ in range(3)] == [False, True, True]
    assert await breaker.ask(answers) == 1
    assert not breaker.is_pausing()
