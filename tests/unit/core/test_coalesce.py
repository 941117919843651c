"""One fetch per turn of the loop, and everybody gets his own answer."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from core.coalesce import MOST, PerTick

whose: ContextVar[str] = ContextVar("whose", default="nobody")


class Source:
    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.seen: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, keys: Sequence[int]) -> list[int]:
        self.asked.append(list(keys))
        self.seen.append(whose.get())
        await self.gate.wait()
        return [key * 10 for key in keys]


async def test_calls_of_one_turn_share_a_fetch_and_those_of_the_next_do_not() -> None:
    source = Source()
    per_tick = PerTick(source)
    assert list(await asyncio.gather(*(per_tick(key) for key in (1, 2, 2, 3)))) == [10, 20, 20, 30]
    assert await per_tick(4) == 40
    assert source.asked == [[1, 2, 2, 3], [4]]


async def test_what_is_asked_during_a_fetch_goes_with_the_next() -> None:
    source = Source()
    source.gate.clear()
    per_tick = PerTick(source)
    first = per_tick(1)
    while not source.asked:
        await asyncio.sleep(0)
    rest = [per_tick(2)]
    await asyncio.sleep(0)
    rest.append(per_tick(3))
    await asyncio.sleep(0)
    assert source.asked == [[1]]
    source.gate.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30]
    assert source.asked == [[1], [2, 3]]
    assert await per_tick(4) == 40


async def test_a_fetch_that_is_cancelled_frees_the_way_for_the_next() -> None:
    cancels = True

    async def fetch(keys: Sequence[int]) -> Sequence[int]:
        if cancels:
            raise asyncio.CancelledError
        return keys

    per_tick = PerTick(fetch)
    with pytest.raises(asyncio.CancelledError):
        await per_tick(1)
    cancels = False
    assert await per_tick(2) == 2


async def test_who_waits_behind_a_fetch_that_fails_does_not_wait_for_another() -> None:
    asked: list[int] = []
    hangs = asyncio.Event()

    async def fetch(keys: Sequence[int]) -> Sequence[int]:
        asked.append(len(keys))
        await hangs.wait()
        raise OSError("gone")

    per_tick = PerTick(fetch)
    first = per_tick(0)
    while not asked:
        await asyncio.sleep(0)
    rest = [per_tick(key) for key in range(3 * MOST)]
    hangs.set()
    answers = await asyncio.gather(first, *rest, return_exceptions=True)
    assert {type(answer) for answer in answers} == {OSError}
    assert asked == [1]


async def test_who_has_left_is_not_fetched_for() -> None:
    source = Source()
    source.gate.clear()
    per_tick = PerTick(source)
    first = per_tick(1)
    while not source.asked:
        await asyncio.sleep(0)
    left, stays = per_tick(2), per_tick(3)
    left.cancel()
    source.gate.set()
    assert list(await asyncio.gather(first, stays)) == [10, 30]
    assert source.asked == [[1], [3]]


def test_a_loop_that_ends_meanwhile_does_not_block_the_next() -> None:
    async def fetch(keys: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(60 if slow else 0)
        return keys

    per_tick, slow = PerTick(fetch), True

    async def abandon() -> None:
        per_tick(1)
        await asyncio.sleep(0.01)
        per_tick(2)

    asyncio.run(abandon())
    slow = False

    async def ask() -> int:
        return await per_tick(3)

    assert asyncio.run(ask()) == 3


async def test_many_are_fetched_in_parts() -> None:
    source = Source()
    per_tick = PerTick(source)
    count = 2 * MOST + 1
    assert await asyncio.gather(*(per_tick(key) for key in range(count))) == [key * 10 for key in range(count)]
    assert [len(keys) for keys in source.asked] == [MOST, MOST, 1]


async def test_a_caller_who_leaves_hurts_nobody() -> None:
    source = Source()
    source.gate.clear()
    per_tick = PerTick(source)
    leaving, staying = (asyncio.ensure_future(per_tick(key)) for key in (1, 2))
    while not source.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    source.gate.set()
    assert await staying == 20
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_fetch_that_fails_fails_all_who_share_it_and_not_the_next() -> None:
    fails = True

    async def fetch(keys: Sequence[int]) -> Sequence[int]:
        if fails:
            raise OSError("gone")
        return keys

    per_tick = PerTick(fetch)
    answers = await asyncio.gather(per_tick(1), per_tick(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError, OSError]
    fails = False
    assert await per_tick(3) == 3


async def test_a_fetch_of_too_few_answers_leaves_nobody_waiting() -> None:
    async def fetch(keys: Sequence[int]) -> Sequence[int]:
        return keys[:-1]

    per_tick = PerTick(fetch)
    answers = await asyncio.gather(per_tick(1), per_tick(2), return_exceptions=True)
    assert answers[0] == 1
    assert isinstance(answers[1], ValueError)


async def test_a_fetch_does_not_run_in_the_context_of_its_first_caller() -> None:
    source = Source()
    per_tick = PerTick(source)

    async def call(name: str) -> int:
        whose.set(name)
        return await per_tick(1)

    assert list(await asyncio.gather(call("ada"), call("eve"))) == [10, 10]
    assert source.seen == ["nobody"]
