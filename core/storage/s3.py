"""S3 through boto3, in threads of its own."""

import asyncio
import copy
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from core.storage.base import CHUNK_BYTES, BucketUnreadable, FileMissing, StorageUnavailable, StoredFile, fed

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

log = structlog.get_logger("storage")
T = TypeVar("T")

THREADS, PAGE = 16, 1000
WAIT_FOR_THREAD_S = 2.0
PATIENCE_S = 60.0  # S3 copies some 100 MB a second
_MISSING = {"NoSuchKey", "NoSuchUpload", "404", "NotFound", "PreconditionFailed", "412"}
_UNREADABLE = {301, 400, 403, 404}  # as the status of a listing


@dataclass(frozen=True)
class S3Options:
    """Where and as whom; `read_timeout_s` and `attempts` differ between API and worker."""

    bucket: str
    endpoint_url: str | None
    public_endpoint_url: str | None
    access_key_id: str | None
    secret_access_key: str | None
    region: str
    session_token: str | None = None
    read_timeout_s: float = 3
    attempts: int = 2


class S3FileStore:
    """FileStore on one bucket."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._session: Session | None = None  # shared: each would read the description of S3 again
        self._client: S3Client | None = None
        self._signer: S3Client | None = None
        self._patient: S3Client | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
        self._places = asyncio.Semaphore(THREADS)

    def at(self, bucket: str) -> "S3FileStore":
        other = copy.copy(self)  # clients and threads are shared
        other._options = replace(self._options, bucket=bucket)
        return other

    async def open(self) -> None:
        await self._run(self._connect)

    async def close(self) -> None:
        for client in (self._client, self._signer, self._patient):
            if client is not None:
                client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ping(self) -> None:
        await self._run(lambda: self._s3.head_bucket(Bucket=self._options.bucket))

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        await self._run(lambda: self._put(key, source, content_type))

    async def get(self, key: str, target: Path, *, etag: str | None = None) -> None:
        await self._run(lambda: self._get(key, target, etag))

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        span = f"bytes={start}-{'' if end is None else end}"
        get = self._getting(key, etag)
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

    async def feed(self, key: str, take: Callable[[bytes], None]) -> None:
        with closing((await self._run(self._getting(key, None)))["Body"]) as body:
            while await self._run(functools.partial(fed, body.read, take)):
                pass

    async def stat(self, key: str) -> StoredFile:
        head = await self._run(lambda: self._s3.head_object(Bucket=self._options.bucket, Key=key))
        try:
            return StoredFile(key, head["ContentLength"], head["LastModified"], head["ETag"].strip('"'))
        except KeyError as cause:  # JuiceFS' answer about what somebody is removing at this moment
            raise StorageUnavailable from cause

    async def delete(self, keys: Sequence[str]) -> None:
        # One by one: the checksum that DeleteObjects wants differs between S3 servers.
        for key in keys:
            await self._run(functools.partial(self._s3.delete_object, Bucket=self._options.bucket, Key=key))

    async def list_files(self, prefix: str) -> AsyncIterator[StoredFile]:
        after, more = "", True
        while more:
            found, more = await self.page(prefix, after, PAGE)
            for file in found:
                yield file
                after = file.key

    async def page(self, prefix: str, after: str, limit: int) -> tuple[list[StoredFile], bool]:
        return await self._run(lambda: self._page(prefix, after, limit))

    async def url(self, key: str, *, expires_s: int, headers: Mapping[str, str]) -> str:
        params = {f"Response{name.replace('-', '')}": value for name, value in headers.items()}
        return self.signer.generate_presigned_url(
            "get_object", Params={"Bucket": self._options.bucket, "Key": key, **params}, ExpiresIn=expires_s
        )

    @property
    def _s3(self) -> "S3Client":
        assert self._client is not None, "open() comes first"
        return self._client

    @property
    def signer(self) -> "S3Client":
        assert self._signer is not None, "open() comes first"
        return self._signer

    @property
    def patient(self) -> "S3Client":
        """For what S3 does with a whole object before it answers; made when it is first needed."""
        if self._patient is None:
            self._patient = self._make(self._options.endpoint_url, read_timeout_s=PATIENCE_S)
        return self._patient

    def _connect(self) -> None:
        import boto3  # 100 ms of CPU: paid when the store is opened

        self._session, options = boto3.session.Session(), self._options
        self._client = self._make(options.endpoint_url)
        public = options.public_endpoint_url or options.endpoint_url
        self._signer = self._client if public == options.endpoint_url else self._make(public)

    def _make(self, endpoint: str | None, *, read_timeout_s: float | None = None) -> "S3Client":
        assert self._session is not None, "open() comes first"
        options = self._options
        return self._session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=options.region,
            aws_access_key_id=options.access_key_id,
            aws_secret_access_key=options.secret_access_key,
            aws_session_token=options.session_token,
            config=Config(
                signature_version="s3v4",
                connect_timeout=2,
                read_timeout=read_timeout_s or options.read_timeout_s,
                retries={"total_max_attempts": options.attempts, "mode": "standard"},
                max_pool_connections=THREADS,
                # Signing a payload reads it twice more, here and there; TLS guards it where it matters.
                s3={"addressing_style": "path" if options.endpoint_url else "auto", "payload_signing_enabled": False},
                # Not every S3 server knows the checksums that newer clients add by default.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _put(self, key: str, source: BinaryIO, content_type: str) -> None:
        source.seek(0)  # streamed from disk by the client
        self._s3.put_object(Bucket=self._options.bucket, Key=key, Body=source, ContentType=content_type)

    def _getting(self, key: str, etag: str | None) -> "functools.partial[GetObjectOutputTypeDef]":
        get = functools.partial(self._s3.get_object, Bucket=self._options.bucket, Key=key)
        return get if etag is None else functools.partial(get, IfMatch=f'"{etag}"')

    def _get(self, key: str, target: Path, etag: str | None) -> None:
        body = self._getting(key, etag)()["Body"]
        try:
            with target.open("wb") as file:
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    file.write(chunk)
        finally:
            body.close()

    def _page(self, prefix: str, after: str, limit: int) -> tuple[list[StoredFile], bool]:
        bucket = self._options.bucket
        try:
            page = self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit)
        except ClientError as cause:
            if cause.response["ResponseMetadata"]["HTTPStatusCode"] in _UNREADABLE:
                raise BucketUnreadable from cause
            raise
        found = [
            StoredFile(item["Key"], item["Size"], item["LastModified"], item["ETag"].strip('"'))
            for item in page.get("Contents", [])
        ]
        return found, page["IsTruncated"] and bool(found)

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
    try:
        return work()
    except ClientError as cause:
        code = cause.response.get("Error", {}).get("Code")
        if code in _MISSING:
            raise FileMissing from cause
        log.warning("storage_refused", code=code, operation=cause.operation_name)
        raise StorageUnavailable from cause
    except (BotoCoreError, HTTPClientError, ConnectionError, TimeoutError) as cause:
        raise StorageUnavailable from cause
