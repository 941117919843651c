"""Buckets: the script in real Redis and the twin in this process decide alike, and what they say comes true."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisGone

from core.ids import random_token
from core.local.stack import LocalServers
from core.redis import Commands, make_redis
from core.security import ratelimit
from core.security.ratelimit import KNOWN_MAX, SCRIPT, Buckets, Limiter, MemoryBuckets, Rate, RedisBuckets

NOW = 1_700_000_000_000_000
# The script on a clock that a test sets, and that keys do not run out by.
AT_A_SET_TIME = SCRIPT.text.replace("redis.call('TIME')", "redis.call('LRANGE', KEYS[1] .. ':now', 0, 1)").replace(
    "'PX', math.ceil((tat - now) / 1000)", "'EX', 600"
)
RATES = st.builds(Rate, st.integers(1, 6), st.integers(1, 900_000_000))
STEPS = st.lists(st.tuples(st.sampled_from(["take", "take", "take", "give", "clear"]), st.floats(0, 3)), max_size=40)


@pytest.fixture
async def redis(servers: LocalServers) -> AsyncIterator[Redis]:
    client = make_redis(servers.redis_url)
    yield client
    await client.aclose()


@pytest.fixture(params=["redis", "memory"])
def buckets(request: pytest.FixtureRequest, redis: Redis) -> Buckets:
    return RedisBuckets(Commands(redis)) if request.param == "redis" else MemoryBuckets()


@pytest.fixture
def key() -> str:
    return f"rl:test:{random_token(96)}"


async def test_the_script_and_the_twin_agree_on_every_history(redis: Redis) -> None:
    assert AT_A_SET_TIME.count("redis.call('TIME')") == 0
    assert "'EX', 600" in AT_A_SET_TIME
    script = redis.register_script(AT_A_SET_TIME)
    loop = asyncio.get_running_loop()

    async def agree(rate: Rate, steps: list[tuple[str, float]]) -> None:
        now, key = NOW, f"rl:test:{random_token(96)}"
        twin = MemoryBuckets(lambda: now)
        for step, intervals in steps:
            now += int(intervals * rate.interval_us)
            await redis.delete(f"{key}:now")
            await redis.rpush(f"{key}:now", now // 1_000_000, now % 1_000_000)
            if step == "take":
                waits = await script(keys=[key], args=[rate.interval_us, rate.burst, 1])
                assert waits == [await twin.take(key, rate)]
            elif step == "give":
                await script(keys=[key], args=[rate.interval_us, rate.burst, -1])
                await twin.give_back(key, rate)
            else:
                await redis.unlink(key)
                await twin.clear(key)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(RATES, STEPS)
    def histories(rate: Rate, steps: list[tuple[str, float]]) -> None:
        asyncio.run_coroutine_threadsafe(agree(rate, steps), loop).result(30)

    await asyncio.to_thread(histories)


async def test_a_bucket_grants_its_burst_and_says_truly_when_there_is_more(buckets: Buckets, key: str) -> None:
    rate = Rate.every(1, burst=3)
    granted = [await buckets.take(key, rate) for _ in range(5)]
    assert granted == [0, 0, 0, 1, 1]
    await asyncio.sleep(granted[-1])
    assert await buckets.take(key, rate) == 0
    assert await buckets.take(key, rate) == 1


async def test_takers_at_the_same_moment_get_the_burst_together(buckets: Buckets, key: str) -> None:
    waits = await asyncio.gather(*(buckets.take(key, Rate.every(60, burst=7)) for _ in range(50)))
    assert waits.count(0) == 7
    assert set(waits) == {0, 60}


async def test_one_given_back_can_be_taken_once(buckets: Buckets, key: str) -> None:
    rate = Rate.every(60, burst=2)
    assert [await buckets.take(key, rate) for _ in range(2)] == [0, 0]
    await buckets.give_back(key, rate)
    assert await buckets.take(key, rate) == 0
    assert await buckets.take(key, rate) > 0
    await buckets.clear(key)
    assert [await buckets.take(key, rate) for _ in range(2)] == [0, 0]


async def test_giving_back_more_than_was_taken_widens_nothing(buckets: Buckets, key: str) -> None:
    rate = Rate.every(60, burst=2)
    for _ in range(5):
        await buckets.give_back(key, rate)
    assert [bool(await buckets.take(key, rate)) for _ in range(3)] == [False, False, True]


async def test_a_network_is_known_once_learnt(buckets: Buckets, key: str) -> None:
    assert not await buckets.knows(key, "a")
    await buckets.learn(key, "a")
    assert await buckets.knows(key, "a")
    assert not await buckets.knows(key, "b")


async def test_redis_keeps_few_networks_and_no_full_bucket(redis: Redis, key: str) -> None:
    shared = RedisBuckets(Commands(redis))
    for number in range(KNOWN_MAX + 5):
        await shared.learn(key, str(number))
    assert await redis.zcard(key) == KNOWN_MAX
    assert not await shared.knows(key, "0")
    assert 0 < await redis.ttl(key) <= ratelimit.KNOWN_S
    await shared.take(f"{key}:2", Rate.every(60, burst=5))
    assert 59_000 < await redis.pttl(f"{key}:2") <= 60_000


async def test_the_twin_forgets_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "MEMORY_KEYS", 3)
    twin, rate = MemoryBuckets(), Rate.every(60, burst=1)
    for name in ("a", "b", "c", "d"):
        assert await twin.take(name, rate) == 0
    assert await twin.take("d", rate) == 60
    assert await twin.take("a", rate) == 0


class Broken(MemoryBuckets):
    """Redis as it is while nobody answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.works = 0, False

    async def take(self, key: str, rate: Rate) -> int:
        self.asked += 1
        if not self.works:
            await asyncio.sleep(0.05)
            raise RedisGone
        return await super().take(key, rate)


async def test_without_redis_each_process_grants_its_share(key: str) -> None:
    fell_back: list[Any] = []
    limiter = Limiter(Broken(), MemoryBuckets(), b"s", processes=4, fell_back=lambda: fell_back.append(1))
    granted = [await limiter.take(key, Rate.every(60, burst=8)) for _ in range(3)]
    assert granted == [0, 0, 240]
    assert len(fell_back) == 3
    assert await limiter.take(f"{key}:2", Rate.every(60, burst=2)) == 0  # a share is never nothing


async def test_a_silent_redis_is_asked_once_a_second(key: str) -> None:
    now = [0.0]
    redis = Broken()
    limiter = Limiter(redis, MemoryBuckets(), b"s", clock=lambda: now[0])
    rate = Rate.every(60, burst=1000)
    for _ in range(100):
        await limiter.take(key, rate)
    assert redis.asked == 1
    now[0] = 1.1
    await asyncio.gather(*(limiter.take(key, rate) for _ in range(50)))
    assert redis.asked == 2
    now[0], redis.works = 2.2, True
    await limiter.take(key, rate)
    await limiter.take(key, rate)
    assert redis.asked == 4


async def test_a_key_does_not_say_whose_it_is() -> None:
    one, other = (
        Limiter(MemoryBuckets(), MemoryBuckets(), secret).key("pair", "ada@example.com", "192.0.2.1/32")
        for secret in (b"1", b"2")
    )
    assert "ada" not in one
    assert "192" not in one
    assert one != other
