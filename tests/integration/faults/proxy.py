"""A TCP proxy on 127.0.0.1 that can refuse, hang, or swallow the answer to one MongoDB command."""

import asyncio
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

Mode = Literal["pass", "refuse", "hang"]
IsCut = Callable[[bytes], bool]

CHUNK = 65_536
HEADER = 16  # of a MongoDB message: length, request id, the request it answers, opcode


class Proxy:
    """Runs on a loop of its own, so that it works on while a test waits."""

    def __init__(self, target_port: int, *, mongo: bool = False) -> None:
        """`mongo`: what passes are MongoDB's messages, so that answers can be cut."""
        self._target_port = target_port
        self._take = _framed if mongo else _some
        self._mode: Mode = "pass"
        self._is_cut: IsCut = _never
        self._loop = asyncio.new_event_loop()
        self._may_flow = asyncio.Event()
        self._may_flow.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = 0
        self._on_loop(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def turn(self, mode: Mode) -> None:
        """`refuse` also ends the connections there are, `hang` keeps them and lets nothing through."""
        self._on_loop(self._turn(mode))

    def cut(self, is_cut: IsCut) -> None:
        """Requests it says yes to reach the server; the connection ends in place of their answer."""
        self._is_cut = is_cut

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _turn(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if mode == "hang":
            self._may_flow.clear()
        else:
            self._may_flow.set()
        if mode == "refuse":
            await self._close()
        elif before == "refuse":
            await self._listen()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            await self._may_flow.wait()
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(to_server)
            unanswered: set[int] = set()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._requests(reader, to_server, unanswered))
                both.create_task(self._answers(from_server, writer, unanswered))
        except (OSError, EOFError, asyncio.CancelledError, BaseExceptionGroup):
            pass  # one side has gone, so the other goes as well
        finally:
            self._connections.discard(task)
            for each in writers:
                with suppress(OSError, RuntimeError):
                    each.transport.abort()

    async def _requests(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, unanswered: set[int]) -> None:
        while True:
            message = await self._take(source)
            if self._is_cut(message):
                unanswered.add(struct.unpack_from("<i", message, 4)[0])
            await self._may_flow.wait()
            target.write(message)
            await target.drain()

    async def _answers(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, unanswered: set[int]) -> None:
        while True:
            message = await self._take(source)
            if unanswered and struct.unpack_from("<i", message, 8)[0] in unanswered:
                raise EOFError
            await self._may_flow.wait()
            target.write(message)
            await target.drain()


def _never(_: bytes) -> bool:
    return False


async def _some(source: asyncio.StreamReader) -> bytes:
    if not (chunk := await source.read(CHUNK)):
        raise EOFError
    return chunk


async def _framed(source: asyncio.StreamReader) -> bytes:
    head = await source.readexactly(HEADER)
    return head + await source.readexactly(struct.unpack_from("<i", head)[0] - HEADER)
