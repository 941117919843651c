"""The load generator: keep-alive connections on one loop, in a process of its own, with as little client as possible.

It draws requests at random from those it is given. An answer that is not the one expected, or a broken connection, is
an error; one error voids the measurement.
"""

import asyncio
import itertools
import multiprocessing
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol, cast

import uvloop
from pymongo import AsyncMongoClient

UNIQUE = b"unique-00000000"  # in a request: replaced by what no other request has
END_OF_HEAD = b"\r\n\r\n"
KEPT_ERRORS = 3


@dataclass
class Answered:
    """What came of a job: times in seconds, `cpu_s` of the process that did it."""

    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.times)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Job(Protocol):
    """Runs in the other process."""

    async def run(self) -> Answered: ...


@dataclass(frozen=True)
class Requests:
    """HTTP requests to a server of this machine."""

    port: int
    requests: Sequence[bytes]
    expected: int
    connections: int
    seconds: float

    async def run(self) -> Answered:
        found, loop = Answered(), asyncio.get_running_loop()
        cpu, started = time.process_time(), time.perf_counter()
        draw = _drawing(self.requests)
        expected, until = b" %d " % self.expected, started + self.seconds
        clients = [_Client(draw, expected, until, found) for _ in range(self.connections)]
        for client in clients:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", self.port)  # type: ignore[misc]
        await asyncio.gather(*(client.done for client in clients))
        found.seconds, found.cpu_s = time.perf_counter() - started, time.process_time() - cpu
        return found


def _drawing(requests: Sequence[bytes]) -> Callable[[], bytes]:
    if UNIQUE not in requests[0]:
        return lambda: random.choice(requests)  # noqa: S311
    # From the time, so that the next job starts elsewhere.
    numbers = itertools.count(time.time_ns() // 1000 % 10**12 * 1000)
    return lambda: random.choice(requests).replace(UNIQUE, b"%0*d" % (len(UNIQUE), next(numbers)))  # noqa: S311


class _Client(asyncio.Protocol):
    """One connection: the next request leaves when the answer to the last one is whole."""

    def __init__(self, draw: Callable[[], bytes], expected: bytes, until: float, found: Answered) -> None:
        self._draw, self._expected, self._until, self._found = draw, expected, until, found
        self.done = asyncio.get_running_loop().create_future()
        self._answer, self._sent_at = b"", 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(END_OF_HEAD)
        if not end:
            return
        if self._expected not in head[:16]:
            self._fail(self._answer[:300].decode("latin-1"))
        elif len(body) >= _length(head):
            self._found.times.append(time.perf_counter() - self._sent_at)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the connection was closed: {error}")

    def _next(self) -> None:
        self._answer = b""
        self._sent_at = time.perf_counter()
        if self._sent_at < self._until:
            self._transport.write(self._draw())
        else:
            self._end()

    def _fail(self, what: str) -> None:
        if len(self._found.errors) < KEPT_ERRORS:
            self._found.errors.append(what)
        self._end()

    def _end(self) -> None:
        self.done.set_result(None)
        self._transport.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("an answer without Content-Length")


@dataclass(frozen=True)
class Calls:
    """Calls of the driver alone, as many at a time as there would be connections."""

    url: str
    database: str
    collection: str
    what: str  # `one`, `page` or `insert`
    arguments: Sequence[Any]
    connections: int
    seconds: float

    async def run(self) -> Answered:
        found = Answered()
        async with AsyncMongoClient[dict[str, Any]](self.url, w="majority", journal=True, tz_aware=True) as client:
            rows = client[self.database][self.collection]
            numbers = itertools.count(time.time_ns())

            async def one(given: Any) -> object:
                return await rows.find_one(*given)

            async def page(given: Any) -> object:
                query, fields, limit = given
                return await rows.find(query, fields).sort([("created_at", -1), ("_id", -1)]).limit(limit).to_list()

            async def insert(row: Any) -> object:
                number = str(next(numbers))
                return await rows.insert_one({**row, "_id": f"bench_{number}", "name": number})

            call = {"one": one, "page": page, "insert": insert}[self.what]
            await asyncio.gather(*(call(random.choice(self.arguments)) for _ in range(self.connections)))  # noqa: S311
            cpu, started = time.process_time(), time.perf_counter()
            await asyncio.gather(*(self._repeat(call, started, found) for _ in range(self.connections)))
            found.seconds, found.cpu_s = time.perf_counter() - started, time.process_time() - cpu
        return found

    async def _repeat(self, call: Callable[[Any], Awaitable[object]], started: float, found: Answered) -> None:
        now = time.perf_counter()
        while now < started + self.seconds:
            if not await call(random.choice(self.arguments)):  # noqa: S311
                found.errors.append("nothing found")
                return
            now, before = time.perf_counter(), now
            found.times.append(now - before)


class Apart:
    """A process that runs jobs, one after the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, job: Job) -> Answered:
        self._ours.send(job)
        answered = self._ours.recv()
        assert isinstance(answered, Answered)
        return answered

    def close(self) -> None:
        self._ours.close()
        self._process.join(10)


def _work(pipe: "Connection[Any, Any]") -> None:
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        pipe.send(uvloop.run(job.run()))
