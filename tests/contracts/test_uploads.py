"""Direct uploads on real S3: links, parts in any order, resuming, and what is left behind."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from app.documents.adapter.mongo import MongoDocuments
from app.documents.adapter.mongo_uploads import MongoDirectUploads, UploadRecord
from app.documents.adapter.upload import StoredFileScan
from app.documents.application.uploads import Announced, Progress, Uploads
from app.documents.domain import direct_upload
from app.documents.domain.direct_upload import part_size_for
from app.documents.domain.document import Document
from app.documents.domain.errors import FileCorrupt, UploadIncomplete, UploadNotFound
from app.documents.domain.ports import Runs
from core.clock import utc_now
from core.ids import random_token
from core.local.stack import LocalServers
from core.storage.base import FileMissing
from core.storage.s3_uploads import S3UploadStore
from tests.contracts.test_file_store import s3_options
from tests.corpus import pdfs

OWNER, MIB = "usr_1", 2**20
PART = 5 * MIB  # the least that S3 joins
KIND = "application/pdf"


def content_of(size: int) -> bytes:
    small = pdfs.pdf(["large"])
    return small[:9] + b"%" * (size - len(small)) + small[9:]


CONTENT = content_of(2 * PART + 1000)


class Time:
    def __init__(self) -> None:
        self.passed = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.passed


class AnyFolder:
    async def exists(self, folder_id: str, owner_id: str) -> bool:
        return True


@pytest.fixture
async def files(servers: LocalServers) -> AsyncIterator[S3UploadStore]:
    store = S3UploadStore(s3_options(servers))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def uploads(database: str, runs: Runs, files: S3UploadStore, time: Time, monkeypatch: pytest.MonkeyPatch) -> Uploads:
    monkeypatch.setattr(direct_upload, "WHOLE_BYTES", PART)
    monkeypatch.setattr(direct_upload, "PART_BYTES", PART)
    folders: Any = AnyFolder()
    return Uploads(MongoDirectUploads(), MongoDocuments(time), runs, files, folders, StoredFileScan(), 2**40, time)


async def begun(uploads: Uploads, content: bytes = CONTENT) -> Progress:
    return await uploads.begin(OWNER, Announced("a.pdf", len(content), KIND))


async def send(progress: Progress, *numbers: int, content: bytes = CONTENT) -> dict[int, str]:
    upload = progress.upload
    step, etags = upload.part_size or upload.size, {}
    async with httpx.AsyncClient() as http:
        for number in numbers:
            answer = await http.put(
                progress.urls[number],
                content=content[(number - 1) * step : number * step],
                headers={} if upload.part_size else {"Content-Type": KIND},
            )
            assert answer.status_code == 200, answer.text
            etags[number] = answer.headers["etag"].strip('"')
    return etags


async def left_behind(files: S3UploadStore, upload_id: str) -> list[str]:
    prefix = direct_upload.uploads_prefix(upload_id)
    return [file.key async for file in files.list_files(prefix)] + [
        begun.parts_id async for begun in files.unfinished(prefix)
    ]


async def bytes_of(files: S3UploadStore, document: Document) -> bytes:
    async with files.read(document.key) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_small_file_is_sent_whole(uploads: Uploads, files: S3UploadStore) -> None:
    content = content_of(5000)
    progress = await begun(uploads, content)
    assert (progress.upload.part_size, list(progress.urls)) == (None, [1])
    await send(progress, 1, content=content)
    document = await uploads.complete(OWNER, progress.upload.id, None)
    assert await bytes_of(files, document) == content
    assert await left_behind(files, progress.upload.id) == []


@pytest.mark.parametrize(("body", "kind"), [(b"x" * 4999, KIND), (b"x" * 5001, KIND), (b"x" * 5000, "text/html")])
async def test_s3_takes_only_what_was_announced(uploads: Uploads, body: bytes, kind: str) -> None:
    progress = await begun(uploads, content_of(5000))
    async with httpx.AsyncClient() as http:
        answer = await http.put(progress.urls[1], content=body, headers={"Content-Type": kind})
    assert answer.status_code == 403
    with pytest.raises(UploadIncomplete):
        await uploads.complete(OWNER, progress.upload.id, None)


async def test_parts_come_in_any_order_again_and_after_a_crash(uploads: Uploads, files: S3UploadStore) -> None:
    progress = await begun(uploads)
    assert list(progress.urls) == [1, 2, 3]
    await send(progress, 3, 1)
    await send(progress, 1)
    with pytest.raises(UploadIncomplete):
        await uploads.complete(OWNER, progress.upload.id, None)

    resumed = await uploads.look(OWNER, progress.upload.id)
    assert {part.number: part.size for part in resumed.parts} == {1: PART, 3: 1000}
    assert list(resumed.urls) == [2]
    await send(resumed, 2)
    document = await uploads.complete(OWNER, progress.upload.id, None)
    assert document.id == progress.upload.document_id
    assert await bytes_of(files, document) == CONTENT
    assert await left_behind(files, progress.upload.id) == []


async def test_a_part_has_the_size_that_was_announced(uploads: Uploads) -> None:
    progress = await begun(uploads)
    async with httpx.AsyncClient() as http:
        for size in (999, 1001):  # small, or S3 ends the connection before it has read all
            assert (await http.put(progress.urls[3], content=b"x" * size)).status_code == 403


async def test_parts_that_are_named_must_be_those_that_arrived(uploads: Uploads) -> None:
    progress = await begun(uploads)
    etags = await send(progress, 1, 2, 3)
    for wrong in ({**etags, 2: "0" * 32}, {1: etags[1]}, {**etags, 4: "x"}):
        with pytest.raises(UploadIncomplete):
            await uploads.complete(OWNER, progress.upload.id, wrong)
    assert (await uploads.complete(OWNER, progress.upload.id, etags)).size == len(CONTENT)


async def test_of_many_that_complete_at_a_time_one_makes_the_document(uploads: Uploads, files: S3UploadStore) -> None:
    progress = await begun(uploads)
    await send(progress, 1, 2, 3)
    made = await asyncio.gather(*(uploads.complete(OWNER, progress.upload.id, None) for _ in range(4)))
    assert len({document.key for document in made}) == 1
    originals = [file.key async for file in files.list_files(f"_dossier/originals/{progress.upload.document_id}/")]
    assert originals == [made[0].key]


async def test_a_crash_after_joining_is_repaired_by_completing_again(uploads: Uploads, files: S3UploadStore) -> None:
    progress = await begun(uploads)
    await send(progress, 1, 2, 3)
    upload = progress.upload
    assert upload.parts_id
    await files.join_parts(upload.key, upload.parts_id, await files.parts(upload.key, upload.parts_id))
    assert (await uploads.complete(OWNER, upload.id, None)).size == len(CONTENT)


async def test_a_crash_before_closing_is_repaired_by_completing_again(uploads: Uploads, files: S3UploadStore) -> None:
    progress = await begun(uploads)
    await send(progress, 1, 2, 3)
    document = await uploads.complete(OWNER, progress.upload.id, None)
    await UploadRecord.get_pymongo_collection().update_one({"_id": progress.upload.id}, {"$set": {"state": "open"}})
    assert (await uploads.complete(OWNER, progress.upload.id, None)).key == document.key
    assert (await uploads.look(OWNER, progress.upload.id)).status == "completed"


async def test_a_refused_file_leaves_nothing(uploads: Uploads, files: S3UploadStore) -> None:
    broken = CONTENT.replace(b"startxref", b"startxxxx")
    progress = await begun(uploads)
    await send(progress, 1, 2, 3, content=broken)
    with pytest.raises(FileCorrupt):
        await uploads.complete(OWNER, progress.upload.id, None)
    assert await left_behind(files, progress.upload.id) == []
    assert [file async for file in files.list_files(f"_dossier/originals/{progress.upload.document_id}/")] == []


@pytest.mark.parametrize("aborted", [True, False])
async def test_what_is_over_leaves_nothing(uploads: Uploads, files: S3UploadStore, time: Time, aborted: bool) -> None:
    progress = await begun(uploads)
    await send(progress, 2)
    if aborted:
        await uploads.abort(OWNER, progress.upload.id)
    else:
        await uploads.sweep()
        assert await left_behind(files, progress.upload.id) != []
        time.passed = timedelta(hours=24, seconds=1)
        assert (await uploads.look(OWNER, progress.upload.id)).status == "expired"
        await uploads.sweep()
    assert await left_behind(files, progress.upload.id) == []
    with pytest.raises(UploadNotFound):
        await uploads.look(OWNER, progress.upload.id)


async def test_beginnings_at_a_time_name_one_upload_in_parts(uploads: Uploads, files: S3UploadStore) -> None:
    announced, command = Announced("a.pdf", len(CONTENT), KIND), f"cmd_{random_token()}"
    begun = await asyncio.gather(*(uploads.begin(OWNER, announced, command) for _ in range(5)))
    assert len({(each.upload.id, each.upload.key, each.upload.parts_id) for each in begun}) == 1
    await send(begun[0], 1, 2, 3)
    assert (await uploads.complete(OWNER, begun[4].upload.id, None)).size == len(CONTENT)
    assert await left_behind(files, begun[0].upload.id) == []


async def test_of_two_processes_that_complete_one_makes_the_document(
    uploads: Uploads, runs: Runs, files: S3UploadStore, time: Time
) -> None:
    folders: Any = AnyFolder()
    other = Uploads(MongoDirectUploads(), MongoDocuments(time), runs, files, folders, StoredFileScan(), 2**40, time)
    content = content_of(5000)
    progress = await begun(uploads, content)
    await send(progress, 1, content=content)
    made = await asyncio.gather(*(each.complete(OWNER, progress.upload.id, None) for each in (uploads, other)))
    assert made[0].key == made[1].key
    originals = [file.key async for file in files.list_files(f"_dossier/originals/{progress.upload.document_id}/")]
    assert originals == [made[0].key]


async def test_a_joined_or_unknown_upload_in_parts_is_missing(files: S3UploadStore) -> None:
    with pytest.raises(FileMissing):
        await files.parts("_dossier/uploads/u/x", "00000000-0000-0000-0000-000000000000")
    with pytest.raises(FileMissing):
        await files.copy("_dossier/uploads/u/x", "_dossier/originals/d/x", KIND)


async def test_listings_of_parts_go_on_behind_the_first_page(
    files: S3UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts_id = await files.begin_parts("_dossier/uploads/pages/x", KIND)
    client = files._s3
    for number in (1, 2, 3):
        client.upload_part(
            Bucket="dossier",
            Key="_dossier/uploads/pages/x",
            UploadId=parts_id,
            PartNumber=number,
            Body=io.BytesIO(b"x"),
        )
    real = client.list_parts
    monkeypatch.setattr(client, "list_parts", lambda **given: real(**given, MaxParts=2))
    assert [part.number for part in await files.parts("_dossier/uploads/pages/x", parts_id)] == [1, 2, 3]
    await files.abort_parts("_dossier/uploads/pages/x", parts_id)


GIB = 1024 * MIB
SIZES: list[tuple[int, Callable[[int], bool]]] = [
    (64 * MIB, lambda count: count == 1),
    (64 * MIB + 1, lambda count: count == 5),
    (5 * GIB, lambda count: count == 320),
    (500 * GIB, lambda count: 999 <= count <= 1000),
]


@pytest.mark.parametrize(("size", "fits"), SIZES)
def test_large_files_have_few_parts(size: int, fits: Callable[[int], bool]) -> None:
    step = part_size_for(size)
    assert fits(-(-size // (step or size)))
