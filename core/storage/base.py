"""The port to where bytes lie, and what every adapter promises."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from core.errors import Unavailable

CHUNK_BYTES = 512 * 1024
TURN_CHUNKS = 8  # in one thread, one after the other: nobody holds a thread for as long as a large file takes


class FileMissing(Exception):
    """No object lies under this key."""


class StorageUnavailable(Unavailable):
    code = "dependency_unavailable"
    title = "The file storage cannot be reached"


class BucketUnreadable(StorageUnavailable):
    """There is no such bucket, or we may not list it: asking again soon changes nothing."""

    code = "dependency_unavailable"


@dataclass(frozen=True)
class StoredFile:
    """What storage knows about an object; `size` in bytes, `etag` changes with the content."""

    key: str
    size: int
    modified_at: datetime
    etag: str


@dataclass(frozen=True)
class StoredPart:
    """One part of an upload in parts that has arrived; `size` in bytes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True)
class UnfinishedUpload:
    """An upload in parts that was neither joined nor aborted."""

    key: str
    parts_id: str
    begun_at: datetime


class FileStore(Protocol):
    """Keys are made of our own ids and slashes. Outages raise StorageUnavailable, an absent key FileMissing."""

    def at(self, bucket: str) -> "FileStore":
        """The same store on another bucket, where others keep what we only read; it is opened and closed with us."""

    async def open(self) -> None:
        """Makes ready what the first call would otherwise wait for."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Raises StorageUnavailable when the store does not answer."""

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        """Stores a seekable file, whole or not at all."""

    async def get(self, key: str, target: Path, *, etag: str | None = None) -> None:
        """Copies an object into a file. With `etag` only this version of it: any other is missing."""

    def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Streams the bytes `start` to `end`, both included. FileMissing is raised on entering; `etag` as in `get`."""

    async def feed(self, key: str, take: Callable[[bytes], None]) -> None:
        """Gives the bytes of an object to `take`, in threads: cheaper than `read`. What `take` raises ends it."""

    async def stat(self, key: str) -> StoredFile:
        """Size and time of an object."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; absent ones are no error."""

    def list_files(self, prefix: str) -> AsyncIterator[StoredFile]:
        """All objects whose key starts so, in the order of their keys."""

    async def page(self, prefix: str, after: str, limit: int) -> tuple[list[StoredFile], bool]:
        """Up to `limit` of them, those behind one key, and whether more follow. Raises BucketUnreadable."""

    async def url(self, key: str, *, expires_s: int, headers: Mapping[str, str]) -> str:
        """A link that needs no credential; `headers` are those of the answer (Content-Type, Content-Disposition)."""


class PartStore(Protocol):
    """Uploads in parts: sent in any order, again where need be, and joined in the end."""

    async def begin_parts(self, key: str, content_type: str) -> str:
        """The id of an upload in parts."""

    async def part_urls(self, key: str, parts_id: str, sizes: Mapping[int, int], *, expires_s: int) -> dict[int, str]:
        """Links for parts of exactly these sizes, by number."""

    async def parts(self, key: str, parts_id: str) -> list[StoredPart]:
        """What has arrived. Raises FileMissing once it was joined or aborted, as do the next two."""

    async def join_parts(self, key: str, parts_id: str, parts: Sequence[StoredPart]) -> None:
        """Makes the object of its parts."""

    async def abort_parts(self, key: str, parts_id: str) -> None: ...

    def unfinished(self, prefix: str) -> AsyncIterator[UnfinishedUpload]:
        """Uploads in parts under a prefix."""


class UploadStore(FileStore, Protocol):
    """A store that clients write to themselves, by links that need no credential."""

    @property
    def in_parts(self) -> PartStore | None:
        """None where a file is always sent whole."""

    async def put_url(self, key: str, *, size: int, content_type: str, expires_s: int) -> str:
        """A link for one PUT of exactly so many bytes of this type."""

    async def copy(self, source: str, target: str, content_type: str) -> None:
        """Copies an object within the store."""


def fed(read: Callable[[int], bytes], take: Callable[[bytes], None]) -> bool:
    """One turn of `feed`; whether there may be more."""
    for _ in range(TURN_CHUNKS):
        chunk = read(CHUNK_BYTES)
        if not chunk:
            return False
        take(chunk)
    return True
