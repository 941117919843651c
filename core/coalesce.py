"""One round trip at a time: calls that are made in the same turn of the event loop, or during a round trip, share one.

Not a cache: each question leaves after it was asked, so what was written before is seen. Never within a transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

K = TypeVar("K")
A = TypeVar("A")

MOST = 64


class PerTick(Generic[K, A]):
    """Calls `fetch` with the keys of a turn, at most 64 at a time; its answers are in the order of the keys.

    What is asked while a fetch is under way goes with the next: the busier it is, the more share one.
    """

    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Sequence[A]]]) -> None:
        self._fetch = fetch
        self._calls: list[tuple[K, asyncio.Future[A]]] = []
        self._under_way: asyncio.Task[None] | None = None

    def __call__(self, key: K) -> "asyncio.Future[A]":
        """Asks at once; who awaits it gets the answer, or what `fetch` raised, as do all who share it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        if not self._calls and self._under_way is None:
            loop.call_soon(self._send, context=Context())  # without what the first caller's context holds
        self._calls.append((key, answer))
        return answer

    def _send(self) -> None:
        calls, self._calls = self._calls[:MOST], self._calls[MOST:]
        self._under_way = asyncio.ensure_future(self._ask(calls))
        self._under_way.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._under_way = None
        if self._calls:
            self._send()

    async def _ask(self, calls: Sequence[tuple[K, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._fetch([key for key, _ in calls])
            for (_, future), answer in zip(calls, answers, strict=True):
                if not future.done():  # its caller may have gone
                    future.set_result(answer)
        except BaseException as error:
            for _, future in calls:
                if not future.done():
                    future.cancel() if isinstance(error, asyncio.CancelledError) else future.set_exception(error)
            if not isinstance(error, Exception):
                raise
