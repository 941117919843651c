"""Time and size of one request: how long its body may take to arrive, how long its answer may take to begin."""

import asyncio
from dataclasses import dataclass
from types import TracebackType

from starlette.types import Message, Receive, Send

from core.errors import TimedOut, TooLarge, Unavailable


@dataclass(frozen=True)
class Deadlines:
    """Seconds. Somebody who sends a little now and then is ended by the slowest rate."""

    silence_s: float = 10
    body_s: float = 30
    body_bytes_per_s: int = 65_536
    answer_s: float = 30
    waiting_answer_s: float = 40


class Arrival:
    """The body of one request, counted. Only waiting for the client counts as its time, not our own work between."""

    def __init__(self, receive: Receive, limit: int, deadlines: Deadlines) -> None:
        self._receive, self._limit, self._deadlines = receive, limit, deadlines
        self._bytes, self._waited_s, self.is_complete = 0, 0.0, False

    async def receive(self) -> Message:
        """Raises TooLarge or TimedOut."""
        if self.is_complete:  # waits for the client to leave, which takes as long as it takes
            return await self._receive()
        loop = asyncio.get_running_loop()
        started, left_s = loop.time(), self._allowed_s - self._waited_s
        try:
            async with asyncio.timeout(min(self._deadlines.silence_s, left_s)):
                message = await self._receive()
        except TimeoutError as cause:
            raise TimedOut from cause
        self._waited_s += loop.time() - started
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            raise TooLarge
        self.is_complete = not message.get("more_body", False)
        return message

    @property
    def _allowed_s(self) -> float:
        return self._deadlines.body_s + self._bytes / self._deadlines.body_bytes_per_s


class AnswerDeadline:
    """Ends a handler that has not begun to answer in time; while the body is arriving its clock stands still.

    What `asyncio.timeout` does, at a third of its cost: it is in the way of every request.
    """

    def __init__(self, seconds: float | None, arrival: Arrival, send: Send) -> None:
        self._seconds, self._arrival, self._send = seconds, arrival, send
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.has_begun = self._is_over = False

    async def receive(self) -> Message:
        if self._arrival.is_complete:
            return await self._arrival.receive()
        self._restart(None)
        try:
            return await self._arrival.receive()
        finally:
            self._restart(self._seconds)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._restart(None)
        await self._send(message)

    def _restart(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and not self.has_begun and not self._is_over:
            self._timer = self._loop.call_later(seconds, self._end)

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()

    async def __aenter__(self) -> "AnswerDeadline":
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task, self._cancelled = task, task.cancelling()
        self._restart(self._seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises Unavailable when the time was over."""
        self._restart(None)
        # Somebody else may have cancelled the task as well: then it stays cancelled.
        if self._is_over and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise Unavailable from error
