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
        self._asked: list[tuple[K, asyncio.Future[A]]] = []
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
        self._asked, self._calls = self._calls[:MOST], self._calls[MOST:]
        self._under_way = asyncio.ensure_future(self._ask())
        self._under_way.add_done_callback(self._ended)

    async def _ask(self) -> None:
        answers = await self._fetch([key for key, _ in self._asked])
        for (_, future), answer in zip(self._asked, answers, strict=True):
            if not future.done():  # its caller may have gone
                future.set_result(answer)

    def _ended(self, task: asyncio.Task[None]) -> None:
        waiting, self._under_way = [call for call in self._calls if not call[1].done()], None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            # Those who wait as well: a server that hangs costs everybody one time-out, not one after the other.
            for _, future in [*self._asked, *waiting]:
                if not future.done():
                    future.cancel() if task.cancelled() else future.set_exception(error)
            waiting = []
        self._calls = waiting
        if waiting:
            self._send()
