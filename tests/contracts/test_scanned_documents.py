"""What one upsert does to a scanned document, whatever state it is in. On real MongoDB alone: a pipeline decides."""

import asyncio
from collections.abc import Sequence

import pytest

from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_scanned import MongoScannedDocuments
from app.documents.domain.document import Document, RunResult
from app.documents.domain.ports import Runs
from app.documents.domain.processors import DOCX, PDF, ProcessingError
from app.folders.contracts import ScanCounts, ScannedFile, ScannedFolder
from core.clock import utc_now
from core.mongo import to_model

pytestmark = pytest.mark.parametrize("database", ["mongodb"], indirect=True)

OWNER = "usr_1"
MAX_BYTES = 1000
RESULT = RunResult(attempt=1, processor="extract", version="1", partial=False, warnings=(), summary=None, objects={})


@pytest.fixture
def scanned(database: str) -> MongoScannedDocuments:
    return MongoScannedDocuments(utc_now, MAX_BYTES)


def folder(generation: int, folder_id: str = "fld_1") -> ScannedFolder:
    return ScannedFolder(folder_id, OWNER, "s3://imports/in/", generation)


def file(path: str = "in/a.pdf", etag: str = "e1", size: int = 1, **other: str) -> ScannedFile:
    content_type = other.get("content_type", PDF)
    return ScannedFile(path, other.get("filename", path.rpartition("/")[2]), size, etag, content_type)


async def only() -> Document:
    """The one document there is, also when it is deleted."""
    rows = await DocumentRecord.get_pymongo_collection().find({}).to_list()
    assert len(rows) == 1
    return to_model(Document, rows[0])


async def asked(runs: Runs, *, force: bool = False) -> Document:
    document = await only()
    queued = await runs.request(document.id, OWNER, processor="extract", options={}, force=force, request_id="r")
    assert queued is not None
    return queued


async def running(runs: Runs, token: str = "mine") -> Document:
    queued = await asked(runs)
    claimed = await runs.claim(queued.id, queued.run.attempt, token=token, worker="w")
    assert claimed is not None
    return claimed


async def test_an_object_becomes_a_document_without_hash_and_event(scanned: MongoScannedDocuments) -> None:
    assert await scanned.take(folder(1), [file(size=7)]) == 0
    found = await only()
    assert found.folder_id == "fld_1"
    assert (found.filename, found.content_type, found.size, found.sha256) == ("a.pdf", PDF, 7, None)
    assert (found.status, found.version, found.seq, found.outbox) == ("UPLOADED", 1, 0, ())
    assert found.source is not None
    assert (found.source.bucket, found.source.path, found.key) == ("imports", "in/a.pdf", "in/a.pdf")


async def test_what_is_repeated_changes_nothing(scanned: MongoScannedDocuments) -> None:
    await scanned.take(folder(1), [file()])
    before = await only()
    await scanned.take(folder(1), [file(), file(), file(etag="e2")])
    assert await only() == before


async def test_many_at_once_make_one(scanned: MongoScannedDocuments) -> None:
    files = [file(f"in/{number}.pdf") for number in range(50)]
    await asyncio.gather(*(scanned.take(folder(1), files) for _ in range(10)))
    assert await DocumentRecord.get_pymongo_collection().count_documents({}) == 50


async def test_an_older_scan_changes_nothing(scanned: MongoScannedDocuments) -> None:
    await scanned.take(folder(2), [file(etag="new")])
    before = await only()
    await scanned.take(folder(1), [file(etag="old", size=9)])
    assert await only() == before


async def test_a_later_scan_of_the_same_object_shows_no_change(scanned: MongoScannedDocuments) -> None:
    await scanned.take(folder(1), [file()])
    before = await only()
    await scanned.take(folder(2), [file()])
    after = await only()
    assert (after.version, after.updated_at, after.created_at) == (1, before.updated_at, before.created_at)
    assert after.source is not None
    assert (after.source.generation, after.source.changed_generation) == (2, None)


async def test_what_a_person_changed_stays(scanned: MongoScannedDocuments) -> None:
    await scanned.take(folder(1), [file()])
    await MongoDocuments(utc_now).update(await only(), {"folder_id": None, "filename": "mine.pdf"})
    await scanned.take(folder(2), [file(etag="e2")])
    assert ((await only()).folder_id, (await only()).filename) == (None, "mine.pdf")


@pytest.mark.parametrize("outcome", ["COMPLETED", "FAILED"])
async def test_new_content_ends_an_old_outcome(scanned: MongoScannedDocuments, runs: Runs, outcome: str) -> None:
    await scanned.take(folder(1), [file()])
    claimed = await running(runs)
    assert await runs.hashed(claimed.id, "mine", "abc")
    if outcome == "COMPLETED":
        assert await runs.complete(claimed.id, "mine", RESULT)
    else:
        assert await runs.fail(claimed.id, "mine", ProcessingError.of("document_corrupt"))
    before = await only()
    assert (before.sha256, before.status) == ("abc", outcome)
    await scanned.take(folder(2), [file(etag="e2", size=8)])
    after = await only()
    assert (after.status, after.run.result, after.run.error, after.run.attempt) == ("UPLOADED", None, None, 1)
    assert (after.sha256, after.size, after.version) == (None, 8, before.version + 1)
    assert (await asked(runs)).run.attempt == 2


async def test_new_content_takes_a_run_from_its_worker(scanned: MongoScannedDocuments, runs: Runs) -> None:
    await scanned.take(folder(1), [file()])
    claimed = await running(runs)
    await scanned.take(folder(2), [file(etag="e2")])
    after = (await only()).run
    assert (after.state, after.attempt, after.tries, after.token) == ("queued", 2, 0, None)
    assert (await only()).status == "PROCESSING"
    assert not await runs.complete(claimed.id, "mine", RESULT)
    assert not await runs.hashed(claimed.id, "mine", "abc")
    again = await runs.claim(claimed.id, 2, token="next", worker="w")
    assert again is not None
    assert again.source is not None
    assert again.source.etag == "e2"


async def test_new_content_leaves_a_waiting_run_waiting(scanned: MongoScannedDocuments, runs: Runs) -> None:
    await scanned.take(folder(1), [file()])
    queued = await asked(runs)
    await scanned.take(folder(2), [file(etag="e2")])
    assert (await only()).run == queued.run


async def test_a_deleted_document_stays_so_until_its_content_changes(
    scanned: MongoScannedDocuments, runs: Runs
) -> None:
    documents = MongoDocuments(utc_now)
    await scanned.take(folder(1), [file()])
    document_id = (await only()).id
    assert await runs.remove(document_id, OWNER)
    assert await documents.removed(10) == {document_id: 0}
    await DocumentRecord.get_pymongo_collection().update_one({"_id": document_id}, {"$set": {"outbox": []}})
    await documents.purge(document_id)
    assert await documents.removed(10) == {}
    await scanned.take(folder(2), [file()])
    assert (await only()).deleted_at is not None
    await scanned.take(folder(3), [file(etag="e2")])
    back = await documents.get(document_id, OWNER)
    assert (back.status, back.run.state) == ("UPLOADED", None)
    assert await runs.remove(document_id, OWNER)
    assert await documents.removed(10) == {document_id: 0}


async def test_what_a_scan_did_not_see_is_missing_until_it_is_seen_again(scanned: MongoScannedDocuments) -> None:
    await scanned.take(folder(1), [file()])
    await scanned.take(folder(1, "fld_2"), [file("in/b.pdf")])
    for _ in range(2):
        await scanned.sweep(folder(2))
        assert await scanned.count(folder(2)) == ScanCounts(missing=1)
        assert await scanned.count(folder(2, "fld_2")) == ScanCounts()
    await scanned.sweep(folder(3))
    assert await scanned.count(folder(3)) == ScanCounts()  # it was missing before
    await scanned.take(folder(4), [file()])
    rows = await DocumentRecord.get_pymongo_collection().find({"source.missing_since": {"$ne": None}}).to_list()
    assert rows == []


async def test_a_deleted_document_is_not_missed(scanned: MongoScannedDocuments, runs: Runs) -> None:
    await scanned.take(folder(1), [file()])
    assert await runs.remove((await only()).id, OWNER)
    await scanned.sweep(folder(2))
    assert await scanned.count(folder(2)) == ScanCounts()


async def test_what_came_from_outside_is_never_an_expression(scanned: MongoScannedDocuments) -> None:
    odd = file("in/$status.pdf", etag="$$ROOT")
    for generation in (1, 2):
        await scanned.take(folder(generation), [odd])
    found = await only()
    assert found.source is not None
    assert (found.filename, found.source.etag, found.source.path) == ("$status.pdf", "$$ROOT", "in/$status.pdf")
    assert found.source.changed_generation is None


@pytest.mark.parametrize(
    "odd",
    [
        file("other/a.pdf"), file("in/../a.pdf"), file("in/a\n.pdf"), file("in/" + "ä" * 510 + ".pdf"),
        file(filename="a.exe"), file(filename=".."), file(filename="a.docx"), file(content_type="text/plain"),
        file(size=MAX_BYTES + 1),
    ],
)  # fmt: skip
async def test_what_is_no_document_is_skipped_and_counted(scanned: MongoScannedDocuments, odd: ScannedFile) -> None:
    good: Sequence[ScannedFile] = [file(), file("in/b.docx", content_type=DOCX)]
    assert await scanned.take(folder(1), [odd, *good]) == 1
    assert await scanned.count(folder(1)) == ScanCounts(seen=2, created=2)


async def test_nobody_scans_our_own_objects(scanned: MongoScannedDocuments) -> None:
    whole_bucket = ScannedFolder("fld_1", OWNER, "s3://dossier/", 1)
    assert await scanned.take(whole_bucket, [file("_dossier/originals/doc_1/secret.pdf")]) == 1
    assert await scanned.count(whole_bucket) == ScanCounts()
