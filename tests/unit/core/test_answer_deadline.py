"""The end of a handler that does not begin to answer: his own, and nobody else's."""

import asyncio
from contextlib import suppress

import pytest
from starlette.types import Message

from core.errors import TimedOut, Unavailable
from core.http.receiving import AnswerDeadline, Arrival, Deadlines

SOON_S = 0.02


async def silence() -> Message:
    await asyncio.sleep(3 * SOON_S)
    return {"type": "http.request", "body": b"", "more_body": False}


async def nowhere(_: Message) -> None:
    """Takes an answer."""


def deadline(seconds: float | None = SOON_S) -> AnswerDeadline:
    return AnswerDeadline(seconds, Arrival(silence, 100, Deadlines()), nowhere)


async def test_a_handler_that_is_late_is_ended() -> None:
    with pytest.raises(Unavailable):
        async with deadline():
            await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_nothing_ends_one_that_has_begun_to_answer_or_has_no_deadline() -> None:
    async with deadline() as answer:
        await answer.send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(3 * SOON_S)
    async with deadline(None):
        await asyncio.sleep(3 * SOON_S)


async def test_the_clock_stands_still_while_the_body_arrives_and_runs_again_then() -> None:
    async def handler() -> None:
        async with deadline() as answer:
            assert (await answer.receive())["type"] == "http.request"
            await asyncio.sleep(60)

    with pytest.raises(Unavailable):
        await handler()


async def test_who_is_cancelled_by_somebody_else_stays_cancelled() -> None:
    inside = asyncio.Event()

    async def handler() -> None:
        async with deadline():
            inside.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

    task = asyncio.create_task(handler())
    await inside.wait()
    await asyncio.sleep(2 * SOON_S)  # its own end comes first, and is held up
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_that_ends_in_time_is_left_alone() -> None:
    async with deadline():
        pass
    await asyncio.sleep(3 * SOON_S)


async def test_a_body_that_does_not_come_has_an_end_of_its_own() -> None:
    patience = Deadlines(silence_s=SOON_S)

    async def handler() -> str:
        async with AnswerDeadline(None, Arrival(silence, 100, patience), nowhere) as answer:
            with pytest.raises(TimedOut):
                await answer.receive()
            await asyncio.sleep(2 * SOON_S)  # what there is to clean up has its time
            return "cleaned up"

    assert await handler() == "cleaned up"


async def test_a_body_may_take_as_long_as_its_slowest_rate_allows() -> None:
    async def trickle() -> Message:
        await asyncio.sleep(SOON_S)
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    async def pieces(bytes_per_s: int) -> int:
        deadlines = Deadlines(silence_s=60, body_s=3 * SOON_S, body_bytes_per_s=bytes_per_s)
        taken = 0
        async with AnswerDeadline(None, Arrival(trickle, 1000, deadlines), nowhere) as answer:
            with suppress(TimedOut):
                while taken < 20:
                    await answer.receive()
                    taken += 1
        return taken

    assert await pieces(1_000_000) < 10
    assert await pieces(100) == 20
