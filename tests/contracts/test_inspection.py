"""What the doctor finds, on each database, in local files and in S3; and that it touches nothing else."""

import io
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.documents.adapter.doctor import examine
from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_uploads import MongoDirectUploads
from app.documents.application.inspection import Finding, Inspection
from app.documents.domain.direct_upload import DirectUpload, new_upload_key
from app.documents.domain.document import Document, new_original_key, result_prefix
from core.clock import utc_now
from core.ids import new_id
from core.local.stack import LocalServers
from core.storage.base import UploadStore
from core.storage.local import LocalFileStore
from core.storage.s3_uploads import S3UploadStore
from tests.contracts.test_file_store import s3_options

LATER = 25 * 3600


@pytest.fixture
async def files(tmp_path: Path) -> LocalFileStore:
    store = LocalFileStore(tmp_path, [b"k" * 32])
    await store.open()
    return store


@pytest.fixture
async def s3(servers: LocalServers) -> AsyncIterator[S3UploadStore]:
    store = S3UploadStore(s3_options(servers))
    await store.open()
    yield store
    await store.close()


def inspection_of(files: UploadStore) -> Inspection:
    return Inspection(MongoDocuments(utc_now), MongoDirectUploads(), files, utc_now)


async def document(files: UploadStore, **further: object) -> Document:
    document_id, now = new_id("doc"), utc_now()
    made = Document.model_validate(
        {
            "id": document_id, "owner_id": "usr_1", "filename": "a.pdf", "content_type": "application/pdf", "size": 1,
            "sha256": "0", "key": new_original_key(document_id), "created_at": now, "updated_at": now, **further,
        }
    )  # fmt: skip
    await MongoDocuments(utc_now).add(made)
    if made.source is None:
        await files.put(made.key, io.BytesIO(b"x"), "application/pdf")
    return made


async def completed(files: UploadStore) -> tuple[Document, str]:
    """A document with one object of its result, and its key."""
    made = await document(files)
    key = result_prefix(made.id, 1) + "text.txt"
    result = {
        "attempt": 1, "processor": "extract", "version": "1", "partial": False, "warnings": [], "summary": None,
        "objects": {"text.txt": {"key": key, "size": 1, "sha256": "0"}},
    }  # fmt: skip
    change = {"$set": {"status": "COMPLETED", "run.result": result, "run.attempt": 1}}
    await DocumentRecord.get_pymongo_collection().update_one({"_id": made.id}, change)
    await files.put(key, io.BytesIO(b"x"), "text/plain")
    return made, key


async def upload() -> DirectUpload:
    upload_id, now = new_id("upl"), utc_now()
    made = DirectUpload(
        id=upload_id, owner_id="usr_1", document_id=new_id("doc"), filename="a.pdf", content_type="application/pdf",
        size=1, key=new_upload_key(upload_id), created_at=now, expires_at=now,
    )  # fmt: skip
    return await MongoDirectUploads().add(made)


async def aged(files: LocalFileStore, key: str) -> str:
    await files.put(key, io.BytesIO(b"x"), "text/plain")
    moment = time.time() - LATER
    os.utime(files._path(key), (moment, moment))
    return key


def told(printed: str) -> tuple[list[dict[str, object]], dict[str, object]]:
    lines = [json.loads(line) for line in printed.splitlines()]
    return lines[:-1], lines[-1]


async def test_what_agrees_is_in_order(
    database: str, files: LocalFileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        await document(files)
        await completed(files)
    for key in (new_original_key(new_id("doc")), new_upload_key(new_id("upl"))):  # their records may follow
        await files.put(key, io.BytesIO(b"x"), "application/pdf")
    await aged(files, (await upload()).key)
    assert await examine(inspection_of(files), fix=True) == 0
    assert told(capsys.readouterr().out) == ([], {"findings": 0, "left": 0})
    assert len([file async for file in files.list_files("")]) == 12


async def test_what_is_missing_is_found_and_left_to_people(
    database: str, files: LocalFileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [await completed(files) for _ in range(3)]
    first, last = await document(files), await document(files)
    made, result = await completed(files)
    lost = [first.key, last.key, result]
    await files.delete(lost)
    for fix in (False, True):
        assert await examine(inspection_of(files), fix=fix) == 1
        findings, summary = told(capsys.readouterr().out)
        assert findings == [{"finding": "missing_object", "key": key, "fixed": False} for key in lost]
        assert summary == {"findings": 3, "left": 3, "missing_object": 3}
    assert await MongoDocuments(utc_now).find(made.id, "usr_1") is not None
    assert {file.key async for file in files.list_files("")} >= {key for pair in kept for key in (pair[0].key, pair[1])}


async def test_what_nobody_names_is_removed_when_that_is_asked_for(
    database: str, files: LocalFileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    made, result = await completed(files)
    orphans = [
        await aged(files, new_original_key(made.id)),
        await aged(files, result_prefix(made.id, 2) + "text.txt"),
        await aged(files, new_upload_key(new_id("upl"))),
    ]
    assert await examine(inspection_of(files), fix=False) == 1
    findings, summary = told(capsys.readouterr().out)
    assert findings == [{"finding": "orphan_object", "key": key, "fixed": False} for key in orphans]
    assert await examine(inspection_of(files), fix=True) == 0
    findings, summary = told(capsys.readouterr().out)
    assert summary == {"findings": 3, "left": 0, "orphan_object": 3}
    assert {file.key async for file in files.list_files("")} == {made.key, result}
    assert await examine(inspection_of(files), fix=False) == 0


async def test_objects_of_hosts_are_not_looked_at(database: str, files: LocalFileStore) -> None:
    source = {"folder_id": "fld_1", "bucket": "host", "path": "in/a.pdf", "etag": "e", "generation": 1}
    await document(files, key="in/a.pdf", source={**source, "created_generation": 1})
    host = await aged(files, "in/b.pdf")
    assert await examine(inspection_of(files), fix=True) == 0
    assert [file.key async for file in files.list_files("")] == [host]


async def test_uploads_in_parts_that_nobody_knows_are_ended(database: str, s3: S3UploadStore) -> None:
    key = new_upload_key(new_id("upl"))
    parts_id = await s3.begin_parts(key, "application/pdf")
    mine = Finding("unfinished_upload", key, parts_id)
    inspection = inspection_of(s3)
    assert mine not in [finding async for finding in inspection.orphans()]  # young
    assert await inspection.fix(mine)
    assert [begun async for begun in s3.unfinished(key)] == []
