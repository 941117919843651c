"""The other side: a server of customers, each path with behaviour of its own; it keeps what it was sent."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from standardwebhooks import Webhook

from core.security.signing import signing_key, verify

# Bytes are the answer; an event is waited for, and 200 follows; a number is a pause before 200.
Behaviour = bytes | asyncio.Event | float

GARBAGE = b"\x00\x01 this is no HTTP at all\r\n\r\n"


def says(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} x", *headers, "Content-Length: 0", "", ""]).encode()


@dataclass(frozen=True)
class Seen:
    """One request as it came; `at` in seconds."""

    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    at: float

    def __getitem__(self, name: str) -> str:
        return next(value.decode() for key, value in self.headers if key == name.encode())

    def is_signed_with(self, secret: str) -> bool:
        """Says our verifier; the one of Standard Webhooks has to say the same."""
        try:
            Webhook(secret).verify(self.body, {key.decode(): value.decode() for key, value in self.headers})
            theirs = True
        except Exception:
            theirs = False
        try:
            ours = verify([signing_key(secret)], self.headers, self.body, time.time()) == self["webhook-id"]
        except Exception:
            ours = False
        assert ours == theirs
        return ours


class Receiver:
    def __init__(self) -> None:
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.inside: dict[str, int] = defaultdict(int)
        self.most: dict[str, int] = defaultdict(int)  # at a time, by path
        self._seen: list[Seen] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.origin = ""

    def behaves(self, path: str, *behaviours: Behaviour) -> str:
        """One after the other, the last one for ever; the URL."""
        self.behaviours[path] = list(behaviours)
        return self.origin + path

    def seen(self, path: str) -> list[Seen]:
        return [seen for seen in self._seen if seen.path == path]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.sleep(0)  # for those that were accepted a moment ago
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(await self._read(reader), writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Seen:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
        headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines))
        length = next(int(value) for name, value in headers if name == b"content-length")
        seen = Seen(request.split(b" ")[1].decode(), headers, await reader.readexactly(length), time.time())
        self._seen.append(seen)
        return seen

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        known = self.behaviours.get(seen.path, [says(200)])
        behaviour = known.pop(0) if len(known) > 1 else known[0]
        self.inside[seen.path] += 1
        self.most[seen.path] = max(self.most[seen.path], self.inside[seen.path])
        try:
            if isinstance(behaviour, asyncio.Event):
                await behaviour.wait()
            elif isinstance(behaviour, float):
                await asyncio.sleep(behaviour)
        finally:
            self.inside[seen.path] -= 1
        writer.write(behaviour if isinstance(behaviour, bytes) else says(200))
        await writer.drain()
