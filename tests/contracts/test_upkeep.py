"""What is removed when nobody asks: exactly what no record names."""

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_uploads import MongoDirectUploads
from app.documents.application.inspection import Inspection
from app.documents.application.upkeep import Upkeep
from app.documents.domain.document import Document, RunResult, Source, new_original_key, result_prefix
from app.documents.domain.ports import Runs
from core.clock import utc_now
from core.ids import new_id
from core.storage.local import LocalFileStore

OWNER = "usr_1"
OLD_S = 25 * 3600


@pytest.fixture
async def files(tmp_path: Path) -> LocalFileStore:
    store = LocalFileStore(tmp_path, [b"k" * 32])
    await store.open()
    return store


@pytest.fixture
def upkeep(database: str, runs: Runs, files: LocalFileStore) -> Upkeep:
    nobody: Any = None
    return Upkeep(MongoDocuments(utc_now), runs, nobody, files)


@pytest.fixture
def inspection(database: str, files: LocalFileStore) -> Inspection:
    return Inspection(MongoDocuments(utc_now), MongoDirectUploads(), files, utc_now)


async def put(files: LocalFileStore, key: str, *, age_s: float = 0) -> str:
    await files.put(key, io.BytesIO(b"x"), "text/plain")
    moment = time.time() - age_s
    os.utime(files._path(key), (moment, moment))
    return key


async def document(files: LocalFileStore) -> Document:
    document_id, now = new_id("doc"), utc_now()
    key = await put(files, new_original_key(document_id), age_s=OLD_S)
    made = Document(
        id=document_id, owner_id=OWNER, filename="a.pdf", content_type="application/pdf", size=1, sha256="0",
        key=key, created_at=now, updated_at=now,
    )  # fmt: skip
    await MongoDocuments(utc_now).add(made)
    return made


async def keys(files: LocalFileStore) -> set[str]:
    return {file.key async for file in files.list_files("_dossier/")}


async def ask(runs: Runs, made: Document, *, force: bool = False) -> None:
    await runs.request(made.id, OWNER, processor="extract", options={}, force=force, request_id="r")


async def test_originals_that_no_record_names_go_after_a_day(inspection: Inspection, files: LocalFileStore) -> None:
    made = await document(files)
    nobodys = new_id("doc")
    young = await put(files, new_original_key(nobodys))
    await put(files, new_original_key(nobodys), age_s=OLD_S)
    await put(files, new_original_key(made.id), age_s=OLD_S)  # an upload that was repeated
    await inspection.remove_orphans()
    assert await keys(files) == {made.key, young}


async def test_only_the_current_result_and_the_one_being_made_stay(
    inspection: Inspection, runs: Runs, files: LocalFileStore
) -> None:
    made = await document(files)
    await ask(runs, made)
    for attempt in (1, 2):
        assert await runs.claim(made.id, attempt, token="t", worker="w") is not None
        await put(files, result_prefix(made.id, attempt) + "result.json")
        if attempt == 1:
            assert await runs.retry(made.id, "t", delay_s=0)
    kept = result_prefix(made.id, 2) + "result.json"
    await inspection.remove_orphans()
    assert await keys(files) == {made.key, kept}

    result = RunResult(
        attempt=2, processor="extract", version="1", partial=False, warnings=(), summary=None, objects={}
    )
    assert await runs.complete(made.id, "t", result)
    await put(files, result_prefix(made.id, 1) + "late-zombie.json")
    await inspection.remove_orphans()
    assert await keys(files) == {made.key, kept}
    await ask(runs, made, force=True)
    await inspection.remove_orphans()
    assert await keys(files) == {made.key}


async def test_a_deleted_document_loses_its_objects_then_its_record(
    upkeep: Upkeep, runs: Runs, files: LocalFileStore
) -> None:
    made, other = await document(files), await document(files)
    await ask(runs, made)
    await put(files, result_prefix(made.id, 1) + "text.txt")
    assert await runs.remove(made.id, OWNER)
    await upkeep.remove_deleted()
    assert await keys(files) == {other.key}
    rows = DocumentRecord.get_pymongo_collection()
    assert await rows.count_documents({"_id": made.id}) == 1  # its last event has not been routed
    await rows.update_one({"_id": made.id}, {"$set": {"outbox": []}})
    await upkeep.remove_deleted()
    assert await rows.count_documents({"_id": made.id}) == 0


async def test_a_deleted_scanned_document_loses_its_results_and_never_the_hosts_object(
    upkeep: Upkeep, inspection: Inspection, runs: Runs, files: LocalFileStore
) -> None:
    hosts = await put(files, "imports/a.pdf", age_s=OLD_S)
    source = Source(folder_id="fld_1", bucket="imports", path=hosts, etag="e", generation=1, created_generation=1)
    now = utc_now()
    made = Document(
        id=new_id("doc"), owner_id=OWNER, filename="a.pdf", content_type="application/pdf", size=1, sha256=None,
        key=hosts, source=source, created_at=now, updated_at=now,
    )  # fmt: skip
    await MongoDocuments(utc_now).add(made)
    await ask(runs, made)
    await put(files, result_prefix(made.id, 1) + "text.txt")
    later = await put(files, result_prefix(made.id, 2) + "text.txt")  # of the document that a scan brought back
    assert await runs.remove(made.id, OWNER)
    await upkeep.remove_deleted()
    assert await keys(files) == {later}
    await inspection.remove_orphans()
    assert await keys(files) == set()
    assert (await files.stat(hosts)).size == 1
    assert await DocumentRecord.get_pymongo_collection().count_documents({"_id": made.id}) == 1
    assert await MongoDocuments(utc_now).removed(10) == {}
