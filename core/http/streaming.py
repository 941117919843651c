"""Streaming stored bytes: opened before the answer starts, so that an error can still be told."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager


async def stream(opening: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
    """The chunks of an object; errors of opening it are raised here, not while the answer is under way."""
    chunks = await opening.__aenter__()

    async def sent() -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await opening.__aexit__(None, None, None)

    return sent()
