"""The port to where bytes lie, and what every adapter promises."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from core.errors import Unavailable

CHUNK_BYTES = 1024 * 1024


class FileMissing(Exception):
    """No object lies under this key."""


class StorageUnavailable(Unavailable):
    code = "dependency_unavailable"
    title = "The file storage cannot be reached"


@dataclass(frozen=True)
class StoredFile:
    """What storage knows about an object; `size` in bytes."""

    key: str
    size: int
    modified_at: datetime


class FileStore(Protocol):
    """Keys are made of our own ids and slashes. Outages raise StorageUnavailable, an absent key FileMissing."""

    async def open(self) -> None:
        """Makes ready what the first call would otherwise wait for."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Raises StorageUnavailable when the store does not answer."""

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        """Stores a seekable file, whole or not at all."""

    async def get(self, key: str, target: Path) -> None:
        """Copies an object into a file."""

    def read(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Streams the bytes `start` to `end`, both included. FileMissing is raised on entering."""

    async def stat(self, key: str) -> StoredFile:
        """Size and time of an object."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; absent ones are no error."""

    def list_files(self, prefix: str) -> AsyncIterator[StoredFile]:
        """All objects whose key starts so, in the order of their keys."""

    async def url(self, key: str, *, expires_s: int, headers: Mapping[str, str]) -> str:
        """A link that needs no credential; `headers` are those of the answer (Content-Type, Content-Disposition)."""
