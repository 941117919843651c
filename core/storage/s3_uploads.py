"""What clients put into S3 themselves: signed links, uploads in parts, and copies made by the server."""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from core.storage.base import PartStore, StoredPart, UnfinishedUpload
from core.storage.s3 import S3FileStore

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


class _Place(TypedDict):
    Bucket: str
    Key: str


class S3UploadStore(S3FileStore):
    """UploadStore and PartStore on one bucket."""

    @property
    def in_parts(self) -> PartStore:
        return self

    async def put_url(self, key: str, *, size: int, content_type: str, expires_s: int) -> str:
        params = {**self._at(key), "ContentLength": size, "ContentType": content_type}
        return self.signer.generate_presigned_url("put_object", Params=params, ExpiresIn=expires_s)

    async def begin_parts(self, key: str, content_type: str) -> str:
        begin = partial(self._s3.create_multipart_upload, **self._at(key), ContentType=content_type)
        return (await self._run(begin))["UploadId"]

    async def part_urls(self, key: str, parts_id: str, sizes: Mapping[int, int], *, expires_s: int) -> dict[int, str]:
        def signed() -> dict[int, str]:  # a third of a millisecond each, so not on the loop
            return {
                number: self.signer.generate_presigned_url(
                    "upload_part",
                    Params={**self._at(key), "UploadId": parts_id, "PartNumber": number, "ContentLength": size},
                    ExpiresIn=expires_s,
                )
                for number, size in sizes.items()
            }

        return await self._run(signed)

    async def parts(self, key: str, parts_id: str) -> list[StoredPart]:
        found: list[StoredPart] = []
        more = True
        while more:
            after = found[-1].number if found else 0
            list_parts = partial(self._s3.list_parts, **self._at(key), UploadId=parts_id, PartNumberMarker=after)
            page = await self._run(list_parts)
            parts = page.get("Parts", [])
            found += [StoredPart(part["PartNumber"], part["Size"], part["ETag"].strip('"')) for part in parts]
            more = page["IsTruncated"] and bool(parts)
        return found

    async def join_parts(self, key: str, parts_id: str, parts: Sequence[StoredPart]) -> None:
        joined: list[CompletedPartTypeDef] = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        await self._run(
            lambda: self.patient.complete_multipart_upload(
                **self._at(key), UploadId=parts_id, MultipartUpload={"Parts": joined}
            )
        )

    async def abort_parts(self, key: str, parts_id: str) -> None:
        await self._run(partial(self._s3.abort_multipart_upload, **self._at(key), UploadId=parts_id))

    async def unfinished(self, prefix: str) -> AsyncIterator[UnfinishedUpload]:
        markers: dict[str, str] = {}
        while True:
            bucket = self._options.bucket
            page = await self._run(
                partial(self._s3.list_multipart_uploads, Bucket=bucket, Prefix=prefix, **markers)  # type: ignore[arg-type]
            )
            for found in page.get("Uploads", []):
                yield UnfinishedUpload(found["Key"], found["UploadId"], found["Initiated"])
            if not page["IsTruncated"]:
                return
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def copy(self, source: str, target: str, content_type: str) -> None:
        await self._run(
            lambda: self.patient.copy_object(
                **self._at(target),
                CopySource={"Bucket": self._options.bucket, "Key": source},
                MetadataDirective="REPLACE",
                ContentType=content_type,
            )
        )

    def _at(self, key: str) -> "_Place":
        return {"Bucket": self._options.bucket, "Key": key}
