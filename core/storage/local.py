"""Plain files in a folder: for one machine, and for tests. Links are signed and served by the app itself."""

import asyncio
import hmac
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlencode

from core.ids import random_token
from core.storage.base import CHUNK_BYTES, FileMissing, StorageUnavailable, StoredFile

T = TypeVar("T")

THREADS = 16
URL_PATH = "/local-files"
_DRAFTS = ".drafts"


class LocalFileStore:
    """FileStore in a folder: written under another name, synced, then renamed."""

    def __init__(self, root: Path, url_keys: Sequence[bytes]) -> None:
        self._root, self._url_keys = root, tuple(url_keys)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")

    async def open(self) -> None:
        await self._run((self._root / _DRAFTS).mkdir, 0o777, True, True)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ping(self) -> None:
        if not await self._run(os.access, self._root, os.W_OK):
            raise StorageUnavailable

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        await self._run(self._put, key, source)

    async def get(self, key: str, target: Path) -> None:
        await self._run(shutil.copyfile, self._path(key), target)

    @asynccontextmanager
    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        file = await self._run(_opened, self._path(key))

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

    async def stat(self, key: str) -> StoredFile:
        return await self._run(self._stat, key)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._run(partial(self._path(key).unlink, missing_ok=True))

    async def list_files(self, prefix: str) -> AsyncIterator[StoredFile]:
        for key in await self._run(self._keys, prefix):
            try:
                yield await self.stat(key)
            except FileMissing:
                continue  # deleted meanwhile

    async def url(self, key: str, *, expires_s: int, headers: Mapping[str, str]) -> str:
        expires = int(time.time()) + expires_s
        query = {"expires": str(expires), **{name.lower(): value for name, value in headers.items()}}
        query["signature"] = _signature(self._url_keys[0], key, query)
        return f"{URL_PATH}/{quote(key)}?{urlencode(query)}"

    def url_allows(self, key: str, query: Mapping[str, str]) -> bool:
        """Whether this link was made by `url` and is still good."""
        given = query.get("signature", "")
        rest = {name: value for name, value in query.items() if name != "signature"}
        genuine = any(
            hmac.compare_digest(given.encode(), _signature(url_key, key, rest).encode()) for url_key in self._url_keys
        )
        return genuine and int(rest.get("expires", "0")) > time.time()

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not key or any(part in {"", ".", "..", _DRAFTS} or "\0" in part for part in parts):
            raise ValueError("not a key of ours")
        return self._root.joinpath(*parts)

    def _put(self, key: str, source: BinaryIO) -> None:
        path, draft = self._path(key), self._root / _DRAFTS / random_token()
        try:
            source.seek(0)
            with draft.open("xb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _stat(self, key: str) -> StoredFile:
        found = self._path(key).stat()
        return StoredFile(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def _keys(self, prefix: str) -> list[str]:
        folder = self._root / prefix.rpartition("/")[0]
        paths = (path.relative_to(self._root) for path in folder.rglob("*") if path.is_file())
        return sorted(key for path in paths if path.parts[0] != _DRAFTS and (key := path.as_posix()).startswith(prefix))

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _translated, partial(work, *args))


def _signature(url_key: bytes, key: str, query: Mapping[str, str]) -> str:
    text = "\n".join([key, *(f"{name}={query[name]}" for name in sorted(query))])
    return hmac.digest(url_key, text.encode(), "sha256").hex()


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


def _translated(work: Callable[[], T]) -> T:
    with _errors():
        return work()


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as cause:
        raise FileMissing from cause
    except OSError as cause:
        raise StorageUnavailable from cause
