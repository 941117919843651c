"""Streaming stored bytes: opened before the answer starts, so that an error can still be told."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from core.http.gate import Gate


async def stream(gate: Gate, opening: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
    """The chunks of an object; errors of opening it are raised here, not while the answer is under way.

    Each stream has a chunk in hand and a connection to storage, so there are so many at a time. Raises Overloaded.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(gate.place())
        chunks = await stack.enter_async_context(opening)
        held = stack.pop_all()

    async def sent() -> AsyncIterator[bytes]:
        async with held:
            async for chunk in chunks:
                yield chunk

    return sent()
