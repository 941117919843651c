"""S3 through boto3, in threads of its own."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from core.storage.base import CHUNK_BYTES, FileMissing, StorageUnavailable, StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger("storage")
T = TypeVar("T")

THREADS = 16
WAIT_FOR_THREAD_S = 2.0
_MISSING = {"NoSuchKey", "404", "NotFound"}


@dataclass(frozen=True)
class S3Options:
    """Where and as whom; `read_timeout_s` and `attempts` differ between API and worker."""

    bucket: str
    endpoint_url: str | None
    public_endpoint_url: str | None
    access_key_id: str | None
    secret_access_key: str | None
    region: str
    read_timeout_s: float = 3
    attempts: int = 2


class S3FileStore:
    """FileStore on one bucket."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._client: S3Client | None = None
        self._signer: S3Client | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._places = asyncio.Semaphore(THREADS)

    async def open(self) -> None:
        await self._run(self._connect)

    async def close(self) -> None:
        for client in (self._client, self._signer):
            if client is not None:
                client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ping(self) -> None:
        await self._run(lambda: self._s3.head_bucket(Bucket=self._options.bucket))

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        await self._run(lambda: self._put(key, source, content_type))

    async def get(self, key: str, target: Path) -> None:
        await self._run(lambda: self._get(key, target))

    @asynccontextmanager
    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        span = f"bytes={start}-{'' if end is None else end}"
        get = functools.partial(self._s3.get_object, Bucket=self._options.bucket, Key=key)
        # A range of an empty object is an error, so the whole is asked for without one.
        answer = await self._run(get if start == 0 and end is None else functools.partial(get, Range=span))
        body = answer["Body"]

        async def chunks() -> AsyncIterator[bytes]:
            while chunk := await self._run(lambda: body.read(CHUNK_BYTES)):
                yield chunk

        try:
            yield chunks()
        finally:
            body.close()

    async def stat(self, key: str) -> StoredFile:
        head = await self._run(lambda: self._s3.head_object(Bucket=self._options.bucket, Key=key))
        return StoredFile(key, head["ContentLength"], head["LastModified"])

    async def delete(self, keys: Sequence[str]) -> None:
        # One by one: the checksum that DeleteObjects wants differs between S3 servers.
        for key in keys:
            await self._run(functools.partial(self._s3.delete_object, Bucket=self._options.bucket, Key=key))

    async def list_files(self, prefix: str) -> AsyncIterator[StoredFile]:
        after = ""
        while True:
            page = await self._run(
                functools.partial(
                    self._s3.list_objects_v2, Bucket=self._options.bucket, Prefix=prefix, StartAfter=after
                )
            )
            found = page.get("Contents", [])
            for item in found:
                yield StoredFile(item["Key"], item["Size"], item["LastModified"])
            if not page["IsTruncated"]:
                return
            after = found[-1]["Key"]

    async def url(self, key: str, *, expires_s: int, headers: Mapping[str, str]) -> str:
        params = {f"Response{name.replace('-', '')}": value for name, value in headers.items()}
        assert self._signer is not None, "open() comes first"
        return self._signer.generate_presigned_url(
            "get_object", Params={"Bucket": self._options.bucket, "Key": key, **params}, ExpiresIn=expires_s
        )

    @property
    def _s3(self) -> "S3Client":
        assert self._client is not None, "open() comes first"
        return self._client

    def _connect(self) -> None:
        self._client = self._make(self._options.endpoint_url)
        self._signer = self._make(self._options.public_endpoint_url or self._options.endpoint_url)

    def _make(self, endpoint: str | None) -> "S3Client":
        import boto3  # 100 ms of CPU: paid when the store is opened

        options = self._options
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=options.region,
            aws_access_key_id=options.access_key_id,
            aws_secret_access_key=options.secret_access_key,
            config=Config(
                signature_version="s3v4",
                connect_timeout=2,
                read_timeout=options.read_timeout_s,
                retries={"total_max_attempts": options.attempts, "mode": "standard"},
                max_pool_connections=THREADS,
                s3={"addressing_style": "path" if options.endpoint_url else "auto"},
                # Not every S3 server knows the checksums that newer clients add by default.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _put(self, key: str, source: BinaryIO, content_type: str) -> None:
        source.seek(0)  # streamed from disk by the client
        self._s3.put_object(Bucket=self._options.bucket, Key=key, Body=source, ContentType=content_type)

    def _get(self, key: str, target: Path) -> None:
        body = self._s3.get_object(Bucket=self._options.bucket, Key=key)["Body"]
        try:
            with target.open("wb") as file:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    file.write(chunk)
        finally:
            body.close()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(WAIT_FOR_THREAD_S):
                await self._places.acquire()
        except TimeoutError as cause:
            raise StorageUnavailable from cause
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _translated, work)
        finally:
            self._places.release()


def _translated(work: Callable[[], T]) -> T:
    with _errors():
        return work()


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except ClientError as cause:
        code = cause.response.get("Error", {}).get("Code")
        if code in _MISSING:
            raise FileMissing from cause
        log.warning("storage_refused", code=code, operation=cause.operation_name)
        raise StorageUnavailable from cause
    except (BotoCoreError, HTTPClientError, ConnectionError, TimeoutError) as cause:
        raise StorageUnavailable from cause
