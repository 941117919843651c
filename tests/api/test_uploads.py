"""Uploads that go straight to storage, here the local one: begin, put, look, complete, abort."""

import asyncio
import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dependency_injector import providers

from app.container import Container
from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.domain.document import Document
from core.clock import utc_now
from core.config import Settings
from tests.clients import Person, problem
from tests.corpus import docxs, pdfs

PDF = pdfs.pdf(["hello"])
PDF_TYPE = "application/pdf"
DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def stored_files(settings: Settings) -> list[Path]:
    return [path for path in settings.storage_path.rglob("*") if path.is_file()]


def announced(content: bytes = PDF, filename: str = "a.pdf", **further: Any) -> dict[str, Any]:
    return {"filename": filename, "size": len(content), "content_type": PDF_TYPE, **further}


async def begun(person: Person, **given: Any) -> dict[str, Any]:
    answer = await person.post("/documents/uploads", json=announced(**given))
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/documents/uploads/{answer.json()['upload_id']}"
    body: dict[str, Any] = answer.json()
    return body


async def put(http: httpx.AsyncClient, upload: dict[str, Any], content: bytes = PDF) -> httpx.Response:
    return await http.put(upload["url"], content=content, headers=upload["headers"])


async def completed(person: Person, upload: dict[str, Any], **options: Any) -> httpx.Response:
    return await person.post(f"/documents/uploads/{upload['upload_id']}/complete", **options)


class Time:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.passed = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.passed


@pytest.fixture
def time(container: Container) -> Time:
    time = Time()
    container.documents.clock.override(providers.Object(time))
    return time


async def test_a_file_is_put_and_completed(http: httpx.AsyncClient, ada: Person, settings: Settings) -> None:
    folder = (await ada.post("/folders", json={"name": "F"})).json()["folder_id"]
    upload = await begun(ada, folder_id=folder, external_id="e", metadata={"a": "b"})
    assert set(upload) == {
        "upload_id", "document_id", "method", "url", "headers", "parts", "part_size", "expires_at",
    }  # fmt: skip
    assert (upload["method"], upload["parts"], upload["part_size"]) == ("PUT", None, None)
    assert upload["headers"] == {"Content-Type": PDF_TYPE, "Content-Length": str(len(PDF))}
    assert (await put(http, upload)).status_code == 200
    answer = await completed(ada, upload)
    assert answer.status_code == 201
    document = answer.json()
    assert document["document_id"] == upload["document_id"]
    assert (document["size"], document["sha256"]) == (len(PDF), hashlib.sha256(PDF).hexdigest())
    assert (document["status"], document["content_type"], document["folder_id"]) == ("UPLOADED", PDF_TYPE, folder)
    assert (document["external_id"], document["metadata"]) == ("e", {"a": "b"})
    assert (await ada.get(answer.headers["location"])).json() == document
    assert (await ada.get(f"/documents/{document['document_id']}/content")).content == PDF
    assert len(stored_files(settings)) == 1


async def test_a_docx_may_come_this_way_too(http: httpx.AsyncClient, ada: Person) -> None:
    content = docxs.docx(["hello"])
    upload = await begun(ada, content=content, filename="a.docx", content_type=DOCX_TYPE)
    await put(http, upload, content)
    assert (await completed(ada, upload)).json()["content_type"] == DOCX_TYPE


async def test_completing_again_gives_the_same_document(http: httpx.AsyncClient, ada: Person) -> None:
    upload = await begun(ada)
    await put(http, upload)
    answers = await asyncio.gather(*(completed(ada, upload) for _ in range(5)))
    answers.append(await completed(ada, upload))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert len((await ada.get("/documents")).json()["items"]) == 1


async def test_what_is_put_after_completing_changes_nothing(
    http: httpx.AsyncClient, ada: Person, container: Container, time: Time, settings: Settings
) -> None:
    upload = await begun(ada)
    await put(http, upload)
    document = (await completed(ada, upload)).json()
    assert (await put(http, upload, PDF.replace(b"hello", b"jello"))).status_code == 200
    assert (await ada.get(f"/documents/{document['document_id']}/content")).content == PDF
    assert len(stored_files(settings)) == 2
    time.passed = timedelta(hours=24, seconds=1)
    await container.documents.uploads().sweep()
    assert len(stored_files(settings)) == 1


async def test_what_has_not_arrived_cannot_be_completed(http: httpx.AsyncClient, ada: Person) -> None:
    upload = await begun(ada)
    problem(await completed(ada, upload), 409, "upload_incomplete")
    await put(http, upload)
    assert (await completed(ada, upload, json={"parts": None})).status_code == 201


@pytest.mark.parametrize(
    ("content", "headers"),
    [(PDF + b"x", {}), (PDF[:-1], {}), (PDF, {"Content-Type": "text/html"}), (PDF, {"Content-Type": ""})],
)
async def test_only_what_was_announced_may_be_put(
    http: httpx.AsyncClient, ada: Person, settings: Settings, content: bytes, headers: dict[str, str]
) -> None:
    upload = await begun(ada)
    answer = await http.put(upload["url"], content=content, headers={"Content-Type": PDF_TYPE, **headers})
    assert answer.status_code == 403
    assert (await http.get(upload["url"])).status_code == 403
    assert stored_files(settings) == []


async def test_a_link_to_read_is_none_to_write_nor_the_other_way(http: httpx.AsyncClient, ada: Person) -> None:
    upload = await begun(ada)
    await put(http, upload)
    assert (await http.get(upload["url"])).status_code == 403
    document = await ada.uploaded(PDF)
    link = (await ada.get(f"/documents/{document['document_id']}/content-url")).json()["url"]
    assert (await http.put(link, content=PDF, headers={"Content-Type": PDF_TYPE})).status_code == 403


@pytest.mark.parametrize(
    ("content", "further", "status", "code"),
    [
        (b"MZ no pdf", {}, 415, "unsupported_file_type"),
        (b"%PDF-1.7 cut off", {}, 422, "file_corrupt"),
        (bytes.fromhex("d0cf11e0a1b11ae1"), {"filename": "a.docx", "content_type": DOCX_TYPE}, 422, "file_encrypted"),
        (
            docxs.with_parts(further={"word/vbaProject.bin": b"x"}),
            {"filename": "a.docx", "content_type": DOCX_TYPE}, 422, "macro_not_allowed",
        ),
    ],
)  # fmt: skip
async def test_a_refused_file_is_removed_and_stays_refused(
    http: httpx.AsyncClient, ada: Person, settings: Settings, content: bytes, further: dict[str, Any], status: int,
    code: str,
) -> None:  # fmt: skip
    upload = await begun(ada, content=content, **further)
    await put(http, upload, content)
    for _ in range(2):
        problem(await completed(ada, upload), status, code)
    assert stored_files(settings) == []
    state = (await ada.get(f"/documents/uploads/{upload['upload_id']}")).json()
    assert (state["status"], state["parts"], state["urls"]) == ("expired", [], [])
    problem(await ada.get(f"/documents/{upload['document_id']}"), 404, "not_found")


@pytest.mark.parametrize(
    ("further", "status", "code"),
    [
        ({"filename": "a.txt"}, 415, "unsupported_file_type"),
        ({"content_type": "text/plain"}, 415, "unsupported_file_type"),
        ({"content_type": DOCX_TYPE}, 415, "unsupported_file_type"),
        ({"filename": "evil\u202efdp.pdf"}, 422, "file_name_invalid"),
        ({"size": 0}, 422, "validation_failed"),
        ({"size": "12"}, 422, "validation_failed"),
        ({"size": 2_000_001}, 413, "body_too_large"),
        ({"size": 2**60}, 422, "validation_failed"),
        ({"folder_id": "fld_unknown"}, 404, "not_found"),
        ({"metadata": {"a": 1}}, 422, "validation_failed"),
        ({"surprise": 1}, 422, "validation_failed"),
    ],
)
async def test_what_cannot_become_a_document_is_refused_at_once(
    ada: Person, further: dict[str, Any], status: int, code: str
) -> None:
    problem(await ada.post("/documents/uploads", json=announced(**further)), status, code)


async def test_an_upload_tells_what_has_arrived_and_gives_fresh_links(http: httpx.AsyncClient, ada: Person) -> None:
    upload = await begun(ada)
    path = f"/documents/uploads/{upload['upload_id']}"
    state = (await ada.get(path)).json()
    assert set(state) == {"upload_id", "document_id", "status", "parts", "urls", "expires_at"}
    assert (state["status"], state["parts"], len(state["urls"])) == ("open", [], 1)
    fresh = state["urls"][0]
    assert fresh["part_number"] == 1
    assert (await http.put(fresh["url"], content=PDF, headers=upload["headers"])).status_code == 200
    arrived = (await ada.get(path)).json()
    assert [(part["part_number"], part["size"]) for part in arrived["parts"]] == [(1, len(PDF))]
    assert arrived["urls"] == []
    await completed(ada, upload)
    assert (await ada.get(path)).json()["status"] == "completed"


async def test_an_aborted_upload_is_gone_and_a_completed_one_stays(
    http: httpx.AsyncClient, ada: Person, settings: Settings
) -> None:
    upload = await begun(ada)
    await put(http, upload)
    path = f"/documents/uploads/{upload['upload_id']}"
    assert (await ada.call("DELETE", path)).status_code == 204
    assert stored_files(settings) == []
    problem(await ada.call("DELETE", path), 404, "not_found")
    problem(await ada.get(path), 404, "not_found")
    problem(await completed(ada, upload), 404, "not_found")

    upload = await begun(ada)
    await put(http, upload)
    await completed(ada, upload)
    assert (await ada.call("DELETE", f"/documents/uploads/{upload['upload_id']}")).status_code == 204
    assert (await ada.get(f"/documents/{upload['document_id']}")).status_code == 200
    assert (await completed(ada, upload)).status_code == 201


async def test_what_expired_is_told_so_and_swept(
    http: httpx.AsyncClient, container: Container, ada: Person, time: Time, settings: Settings
) -> None:
    upload, aborted = await begun(ada), await begun(ada)
    await put(http, upload)
    await ada.call("DELETE", f"/documents/uploads/{aborted['upload_id']}")
    await put(http, aborted)  # its link still works
    await container.documents.uploads().sweep()
    assert len(stored_files(settings)) == 2
    time.passed = timedelta(minutes=16)
    await container.documents.uploads().sweep()
    assert len(stored_files(settings)) == 1
    time.passed = timedelta(hours=24, seconds=1)
    path = f"/documents/uploads/{upload['upload_id']}"
    assert (await ada.get(path)).json()["status"] == "expired"
    problem(await completed(ada, upload), 409, "upload_incomplete")
    await container.documents.uploads().sweep()
    assert stored_files(settings) == []
    problem(await ada.get(path), 404, "not_found")


async def test_someone_elses_upload_is_not_there(ada: Person, bob: Person) -> None:
    path = f"/documents/uploads/{(await begun(ada))['upload_id']}"
    problem(await bob.get(path), 404, "not_found")
    problem(await bob.post(f"{path}/complete"), 404, "not_found")
    problem(await bob.call("DELETE", path), 404, "not_found")
    assert (await ada.get(path)).json()["status"] == "open"


async def test_a_repeated_beginning_is_the_same_upload(ada: Person) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await ada.post("/documents/uploads", json=announced(), headers=key)
    again = await ada.post("/documents/uploads", json=announced(), headers=key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    problem(await ada.post("/documents/uploads", json=announced(size=1), headers=key), 422, "idempotency_mismatch")


async def test_a_document_that_was_deleted_is_not_made_again(http: httpx.AsyncClient, ada: Person) -> None:
    upload = await begun(ada)
    await put(http, upload)
    await completed(ada, upload)
    await ada.call("DELETE", f"/documents/{upload['document_id']}")
    problem(await completed(ada, upload), 404, "not_found")


async def test_nothing_is_completed_into_a_folder_that_is_gone(http: httpx.AsyncClient, ada: Person) -> None:
    folder = (await ada.post("/folders", json={"name": "F"})).json()["folder_id"]
    upload = await begun(ada, folder_id=folder)
    await put(http, upload)
    assert (await ada.call("DELETE", f"/folders/{folder}")).status_code == 204
    problem(await completed(ada, upload), 404, "not_found")
    assert (await ada.get(f"/documents/uploads/{upload['upload_id']}")).json()["status"] == "open"
    assert await DocumentRecord.rows().count_documents({}) == 0


async def test_nothing_is_completed_into_a_folder_that_goes_meanwhile(
    http: httpx.AsyncClient, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (await ada.post("/folders", json={"name": "F"})).json()["folder_id"]
    upload = await begun(ada, folder_id=folder)
    await put(http, upload)
    add = MongoDocuments.add

    async def late(self: MongoDocuments, document: Document) -> Document:
        assert (await ada.call("DELETE", f"/folders/{folder}")).status_code == 204
        return await add(self, document)

    monkeypatch.setattr(MongoDocuments, "add", late)
    assert (await completed(ada, upload)).status_code == 404
    assert (await ada.get("/documents")).json()["items"] == []
