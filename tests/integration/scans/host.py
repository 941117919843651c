"""A host application: a small HTTP server that takes the messages of scans, or is told to behave otherwise."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from standardwebhooks import Webhook

from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET

ANSWERS = {
    "accept": b"HTTP/1.1 204 No Content\r\n\r\n",
    "fail": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "busy": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1000\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"\x00\xff not HTTP at all\r\n\r\n",
    "hang up": b"",
}


@dataclass(frozen=True)
class Call:
    """One attempt as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    how: str
    at: float

    @property
    def message(self) -> dict[str, Any]:
        """Checked with the library that others use."""
        assert self.headers["private-token"] == PRIVATE_TOKEN
        found: dict[str, Any] = Webhook(SIGNING_SECRET).verify(self.body, self.headers)
        return found


class Host:
    """`script` is how the next calls are answered; after it every call is accepted."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.always = "accept"
        self.slow_s = 0.0
        self.calls: list[Call] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = self._inside = self.most_inside = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callbacks"

    def taken(self) -> list[dict[str, Any]]:
        """What was accepted, each message once."""
        accepted = {call.headers["webhook-id"]: call.message for call in self.calls if call.how == "accept"}
        return list(accepted.values())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self._inside += 1
        self.most_inside = max(self.most_inside, self._inside)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                how = self.script.pop(0) if self.script else self.always
                self.calls.append(Call(head.split()[1], headers, body, how, time.monotonic()))
                await asyncio.sleep(self.slow_s)
                writer.write(ANSWERS[how])
                await writer.drain()
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._inside -= 1
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def host_running() -> AsyncIterator[Host]:
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        await asyncio.sleep(0)  # for those that were accepted a moment ago
        for task in host.tasks:
            task.cancel()
        await asyncio.gather(*host.tasks, return_exceptions=True)


def told(messages: list[dict[str, Any]]) -> tuple[list[int], list[str], list[dict[str, Any]]]:
    """Numbers of the batches and paths of all documents, sorted; the completions."""
    batches = [message for message in messages if message["type"] == "scan.batch"]
    paths = sorted(document["path"] for batch in batches for document in batch["documents"])
    ends = [message for message in messages if message["type"] == "scan.completed"]
    return sorted(batch["batch"] for batch in batches), paths, ends
