"""Plain files in a folder: for one machine, and for tests. Links are signed and served by the app itself."""

import asyncio
import hmac
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlencode

from core.ids import random_token
from core.storage.base import CHUNK_BYTES, FileMissing, StorageUnavailable, StoredFile, fed

T = TypeVar("T")

THREADS = 16
URL_PATH = "/local-files"
_DRAFTS = ".drafts"


class NotOurKey(FileMissing, ValueError):
    """It would lead out of the folder, so nothing lies there."""


class LocalFileStore:
    """FileStore in a folder: written under another name, synced, then renamed."""

    def __init__(self, root: Path, url_keys: Sequence[bytes]) -> None:
        self._root, self._url_keys = root, tuple(url_keys)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    def at(self, bucket: str) -> "LocalFileStore":
        return self  # one folder stands for every bucket

    async def open(self) -> None:
        await self._run((self._root / _DRAFTS).mkdir, 0o777, True, True)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ping(self) -> None:
        if not await self._run(os.access, self._root, os.W_OK):
            raise StorageUnavailable

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        await self._run(self._put, key, source)

    async def get(self, key: str, target: Path, *, etag: str | None = None) -> None:
        await self._run(self._copy, key, target, etag)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        file = await self._run(self._open, key, etag)

        async def chunks() -> AsyncIterator[bytes]:
            left = None if end is None else end - start + 1
            file.seek(start)
            while chunk := await self._run(file.read, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
                yield chunk
                if left is not None:
                    left -= len(chunk)

        try:
            yield chunks()
        finally:
            file.close()

    async def feed(self, key: str, take: Callable[[bytes], None]) -> None:
        with await self._run(self._open, key, None) as file:
            while await self._run(fed, file.read, take):
                pass

    async def stat(self, key: str) -> StoredFile:
        return await self._run(self._stat, key)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._run(partial(self._path(key).unlink, missing_ok=True))

    async def list_files(self, prefix: str) -> AsyncIterator[StoredFile]:
        found, _ = await self.page(prefix, "", sys.maxsize)
        for file in found:
            yield file

    async def page(self, prefix: str, after: str, limit: int) -> tuple[list[StoredFile], bool]:
        keys = [key for key in await self._run(self._keys, prefix) if key > after]
        found = []
        for key in keys[:limit]:
            with suppress(FileMissing):  # deleted meanwhile
                found.append(await self.stat(key))
        return found, len(keys) > limit

    async def url(self, key: str, *, expires_s: int, headers: Mapping[str, str]) -> str:
        return self._link(key, expires_s, {name.lower(): value for name, value in headers.items()})

    @property
    def in_parts(self) -> None:
        return None  # nobody resumes an upload to his own disk

    async def put_url(self, key: str, *, size: int, content_type: str, expires_s: int) -> str:
        return self._link(key, expires_s, {"method": "PUT", "content-length": str(size), "content-type": content_type})

    async def copy(self, source: str, target: str, content_type: str) -> None:
        await self._run(self._copy_file, source, target)

    async def receive(self, key: str, chunks: AsyncIterator[bytes]) -> str:
        """Stores what comes in, whole or not at all; its etag."""
        draft = self._root / _DRAFTS / random_token()
        file = await self._run(draft.open, "xb")
        try:
            async for chunk in chunks:
                await self._run(file.write, chunk)
            await self._run(self._settle, file, self._path(key))
        finally:
            file.close()
            draft.unlink(missing_ok=True)
        return (await self.stat(key)).etag

    def url_allows(self, key: str, query: Mapping[str, str], method: str = "GET") -> bool:
        """Whether this link was made here, for this method, and is still good."""
        given = query.get("signature", "")
        rest = {name: value for name, value in query.items() if name != "signature"}
        genuine = any(
            hmac.compare_digest(given.encode(), _signature(url_key, key, rest).encode()) for url_key in self._url_keys
        )
        return genuine and int(rest.get("expires", "0")) > time.time() and rest.get("method", "GET") == method

    def _link(self, key: str, expires_s: int, query: Mapping[str, str]) -> str:
        query = {"expires": str(int(time.time()) + expires_s), **query}
        signature = _signature(self._url_keys[0], key, query)
        return f"{URL_PATH}/{quote(key)}?{urlencode({**query, 'signature': signature})}"

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not key or any(part in {"", ".", "..", _DRAFTS} or "\0" in part for part in parts):
            raise NotOurKey("not a key of ours")
        return self._root.joinpath(*parts)

    def _open(self, key: str, etag: str | None) -> BinaryIO:
        file = self._path(key).open("rb")
        if etag is not None and etag != _etag(os.fstat(file.fileno())):
            file.close()
            raise FileMissing
        return file

    def _copy(self, key: str, target: Path, etag: str | None) -> None:
        with self._open(key, etag) as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, CHUNK_BYTES)

    def _put(self, key: str, source: BinaryIO) -> None:
        path, draft = self._path(key), self._root / _DRAFTS / random_token()
        try:
            source.seek(0)
            with draft.open("xb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
                self._settle(file, path)
        finally:
            draft.unlink(missing_ok=True)

    def _settle(self, file: BinaryIO, path: Path) -> None:
        file.flush()
        os.fsync(file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).replace(path)

    def _copy_file(self, source: str, target: str) -> None:
        with self._open(source, None) as file:
            self._put(target, file)

    def _stat(self, key: str) -> StoredFile:
        found = self._path(key).stat()
        return StoredFile(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), _etag(found))

    def _keys(self, prefix: str) -> list[str]:
        folder = self._root / prefix.rpartition("/")[0]
        paths = (path.relative_to(self._root) for path in folder.rglob("*") if path.is_file())
        return sorted(key for path in paths if path.parts[0] != _DRAFTS and (key := path.as_posix()).startswith(prefix))

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _translated, partial(work, *args))


def _signature(url_key: bytes, key: str, query: Mapping[str, str]) -> str:
    text = "\n".join([key, *(f"{name}={query[name]}" for name in sorted(query))])
    return hmac.digest(url_key, text.encode(), "sha256").hex()


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"


def _translated(work: Callable[[], T]) -> T:
    try:
        return work()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as cause:
        raise FileMissing from cause
    except OSError as cause:
        raise StorageUnavailable from cause
