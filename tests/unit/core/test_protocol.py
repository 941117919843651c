"""What the server reads of a request before anybody asks for its body; and all of it arrives once somebody does."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from core.http.protocol import BODY_BYTES, FILE_BYTES, HEAD_BYTES, PatientProtocol

BODY = bytes(range(256)) * 8192  # 2 MiB: more than any socket holds
HEADLIKE = b"HTTP/1.1 200 OK\r\n"


class App:
    """Answers with the size of the body, once it may read."""

    def __init__(self) -> None:
        self.may_read, self.entered = asyncio.Event(), 0
        self.ends: list[str] = []
        self.body = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered += 1
        if scope["path"] == "/refused":
            await self._answer(send, b"no")
            return
        if scope["path"] == "/empty":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/talk":  # pieces that look like the head of an answer
            length = (b"content-length", str(3 * len(HEADLIKE)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            for piece in range(3):
                await send({"type": "http.response.body", "body": HEADLIKE, "more_body": piece < 2})
            return
        if scope["path"] == "/long":
            await self._answer_at_length(receive, send)
            return
        await self.may_read.wait()
        self.body, more = b"", True
        while more:
            message = await receive()
            self.ends.append(message["type"])
            if message["type"] == "http.disconnect":
                return
            self.body, more = self.body + message["body"], message["more_body"]
        await self._answer(send, str(len(self.body)).encode())

    async def _answer_at_length(self, receive: Any, send: Any) -> None:
        await receive()
        leaving = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not leaving.done():
            await send({"type": "http.response.body", "body": BODY, "more_body": True})
            await asyncio.sleep(0)
        self.ends.append(leaving.result()["type"])

    async def _answer(self, send: Any, body: bytes) -> None:
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})


class Running:
    def __init__(self) -> None:
        self.app, self.protocols = App(), list[PatientProtocol]()

    async def start(self) -> None:
        config = uvicorn.Config(self.app, http="core.http.protocol:PatientProtocol", lifespan="off", log_config=None)
        config.load()
        state = ServerState()

        def protocol() -> PatientProtocol:
            self.protocols.append(PatientProtocol(config=config, server_state=state, app_state={}))
            return self.protocols[-1]

        self.server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def send(self, *requests: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for request in requests:
            writer.write(request)
        return reader, writer


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    running = Running()
    await running.start()
    yield running
    running.server.close()
    for protocol in running.protocols:  # one that is not read never learns that its client has gone
        protocol._reader.transport.abort()


def post(path: str = "/", body: bytes = BODY) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(line.split(b":")[1] for line in head.splitlines() if line.lower().startswith(b"content-length"))
    return await reader.readexactly(int(length))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_body_stays_with_its_sender_until_it_is_wanted(running: Running) -> None:
    reader, writer = await running.send(post())
    await until(lambda: running.app.entered == 1)
    for _ in range(100):  # the rest of the body lies ready all the time
        await asyncio.sleep(0)
    assert len(running.protocols[0]._reader.cycle.body) <= HEAD_BYTES
    running.app.may_read.set()
    assert await answer(reader) == str(len(BODY)).encode()
    writer.close()


async def test_a_body_arrives_as_it_was_sent_whatever_its_pieces(running: Running) -> None:
    running.app.may_read.set()
    sizes = [100_000, 1, 2, 3, 300_000, 1, 20_000, *[1] * 5_000, 70_000]
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    chunks = (b"%x\r\n%b\r\n" % (size, BODY[at : at + size]) for at, size in zip(starts, sizes, strict=True))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, writer = await running.send(head + b"".join(chunks) + b"0\r\n\r\n")
    await answer(reader)
    assert running.app.body == BODY[: sum(sizes)]
    writer.close()


async def test_small_pieces_behind_a_large_one_are_gathered_without_copying_it_each_time(running: Running) -> None:
    _, writer = await running.send(post()[:-10])
    await until(lambda: running.app.entered == 1)
    reader = running.protocols[0]._reader
    reader.cycle.body = bytearray()
    for piece in (BODY[:100_000], b"x", b"y"):
        reader.on_body(piece)
    assert type(reader.cycle.body) is bytearray
    assert bytes(reader.cycle.body) == BODY[:100_000] + b"xy"
    writer.close()


@pytest.mark.parametrize(
    ("told", "most"),
    [
        (f"Content-Length: {FILE_BYTES + 1}", FILE_BYTES),
        (f"Content-Length: {FILE_BYTES}", BODY_BYTES),
        ("Transfer-Encoding: chunked", BODY_BYTES),
    ],
)
async def test_only_a_body_that_announces_much_is_read_in_large_pieces(running: Running, told: str, most: int) -> None:
    _, writer = await running.send(f"POST / HTTP/1.1\r\nHost: x\r\n{told}\r\n\r\n".encode())
    await until(lambda: running.app.entered == 1)
    assert len(running.protocols[0].get_buffer(-1)) == most
    writer.close()


async def test_requests_on_one_connection_follow_each_other(running: Running) -> None:
    running.app.may_read.set()
    reader, writer = await running.send(
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", post(body=b"abc"), post(body=BODY), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert [await answer(reader) for _ in range(4)] == [b"0", b"3", str(len(BODY)).encode(), b"0"]
    writer.close()


async def test_an_answer_may_come_before_the_body_was_read(running: Running) -> None:
    reader, writer = await running.send(post("/refused"))
    assert await answer(reader) == b"no"
    writer.close()


async def test_a_sender_who_leaves_in_the_middle_is_missed(running: Running) -> None:
    running.app.may_read.set()
    _, writer = await running.send(post()[:-10])
    await until(lambda: running.app.ends)
    writer.close()
    await until(lambda: running.app.ends[-1] == "http.disconnect")


async def test_who_takes_nothing_of_an_answer_is_let_go(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.http.protocol.STALLED_S", 0.3)
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
    writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: running.app.ends == ["http.disconnect"])
    writer.transport.abort()


async def test_who_takes_slowly_is_not(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.http.protocol.STALLED_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=65_536)
    writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(12):  # longer than that in all
        async with asyncio.timeout(5):
            await reader.readexactly(4_000_000)
        await asyncio.sleep(0.1)
    assert running.app.ends == []
    writer.transport.abort()
    await until(lambda: running.app.ends == ["http.disconnect"])


async def test_an_answer_is_one_write_whatever_it_begins_with(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await running.send(b"GET /refused HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await answer(reader) == b"no"
    transport = running.protocols[0]._reader.transport
    written: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            if name in {"write", "writelines"}:
                written.append(1)
            return getattr(under, name)

    under = transport._transport  # type: ignore[attr-defined]
    monkeypatch.setattr(transport, "_transport", Counting())
    writer.write(b"GET /refused HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await answer(reader) == b"no"
    assert len(written) == 1
    writer.write(b"GET /talk HTTP/1.1\r\nHost: x\r\n\r\n" * 2)  # the second waits for the first
    assert [await answer(reader) for _ in range(2)] == [3 * HEADLIKE] * 2
    writer.close()


@pytest.mark.parametrize("request_line", [b"HEAD /refused", b"GET /empty"])
async def test_an_answer_without_a_body_is_not_kept_back(running: Running, request_line: bytes) -> None:
    reader, writer = await running.send(request_line + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204"))
    writer.write(request_line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(head[:12])
    writer.close()


async def test_who_asks_first_whether_to_send_is_told_at_once(running: Running) -> None:
    running.app.may_read.set()
    reader, writer = await running.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.write(b"abc")
    assert await answer(reader) == b"3"
    writer.close()


@pytest.mark.parametrize("request_head", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"])
async def test_what_is_no_request_is_refused_as_everything_else(running: Running, request_head: bytes) -> None:
    reader, writer = await running.send(request_head)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    status, *lines = head.decode().splitlines()
    headers, problem = dict(line.split(": ") for line in lines), json.loads(body)
    assert (status.split()[1], headers["content-type"], headers["connection"]) == (
        "400", "application/problem+json", "close",
    )  # fmt: skip
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
    assert problem["request_id"] == headers["x-request-id"] != ""
    writer.close()


async def test_a_connection_that_has_ended_leaves_nothing_to_the_collector(running: Running) -> None:
    gc.disable()  # it would hide a circle
    try:
        reader, writer = await running.send(post("/refused"))
        assert await answer(reader) == b"no"
        gone = weakref.ref(running.protocols.pop()._reader)
        writer.transport.abort()
        await until(lambda: gone() is None)
    finally:
        gc.enable()
