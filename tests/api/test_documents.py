"""Uploading, finding, changing, downloading and deleting documents."""

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from app.container import Container
from core.config import Settings
from tests.clients import Person, problem
from tests.corpus import docxs, pdfs

PDF = pdfs.pdf(["hello"])
FIELDS = {
    "document_id", "filename", "content_type", "size", "sha256", "status", "folder_id", "external_id", "metadata",
    "created_at", "updated_at",
}  # fmt: skip


def stored_files(settings: Settings) -> list[Path]:
    return [path for path in settings.storage_path.rglob("*") if path.is_file()]


async def test_an_upload_is_described_by_what_arrived(ada: Person) -> None:
    answer = await ada.upload(PDF, "päper.pdf", external_id="order-1", metadata='{"customer":"4711"}')
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == FIELDS
    assert answer.headers["location"] == f"/documents/{body['document_id']}"
    assert body["document_id"].startswith("doc_")
    assert (body["filename"], body["content_type"], body["status"]) == ("päper.pdf", "application/pdf", "UPLOADED")
    assert (body["size"], body["sha256"]) == (len(PDF), hashlib.sha256(PDF).hexdigest())
    assert (body["external_id"], body["metadata"], body["folder_id"]) == ("order-1", {"customer": "4711"}, None)
    assert (await ada.get(answer.headers["location"])).json() == body


async def test_a_docx_is_accepted(ada: Person) -> None:
    document = await ada.uploaded(docxs.docx(["hello"]), "letter.DOCX")
    assert document["content_type"].endswith("wordprocessingml.document")


@pytest.mark.parametrize(
    ("content", "filename", "status", "code"),
    [
        (b"plain text", "a.txt", 415, "unsupported_file_type"),
        (b"MZ not a pdf", "a.pdf", 415, "unsupported_file_type"),
        (PDF, "a.docx", 415, "unsupported_file_type"),
        (b"", "a.pdf", 422, "file_corrupt"),
        (b"%PDF-1.7\n", "a.pdf", 422, "file_corrupt"),
        (b"PK\x03\x04broken", "a.docx", 422, "file_corrupt"),
        (bytes.fromhex("d0cf11e0a1b11ae1"), "a.docx", 422, "file_encrypted"),
        (PDF, "evil\u202efdp.pdf", 422, "file_name_invalid"),
        (PDF, ("n" * 300) + ".pdf", 422, "file_name_invalid"),
    ],
)
async def test_a_refused_file_is_named_and_not_stored(
    ada: Person, settings: Settings, content: bytes, filename: str, status: int, code: str
) -> None:
    answer = await ada.upload(content, filename)
    problem(answer, status, code)
    assert stored_files(settings) == []
    assert (await ada.get("/documents")).json()["items"] == []


async def test_macros_and_bombs_are_refused(ada: Person) -> None:
    macro = docxs.with_parts(further={"word/vbaProject.bin": b"x"})
    problem(await ada.upload(macro, "a.docx"), 422, "macro_not_allowed")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in docxs.parts().items():
            archive.writestr(name, part)
        archive.writestr("word/media/zeros.bin", b"\0" * 210_000_000)
    problem(await ada.upload(out.getvalue(), "a.docx"), 422, "archive_bomb")


async def test_a_file_that_is_too_large_is_refused(ada: Person, settings: Settings) -> None:
    limit = settings.max_upload_bytes
    at_limit = PDF + b"\n" * (limit - len(PDF))
    assert (await ada.upload(at_limit)).status_code == 201
    problem(await ada.upload(at_limit + b"\n"), 413, "body_too_large")
    problem(await ada.upload(at_limit + b"\n" * 1_000_000), 413, "body_too_large")
    assert len(stored_files(settings)) == 1


async def test_a_body_without_a_length_is_cut_while_it_streams(ada: Person, settings: Settings) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7\n'
        for _ in range(1_000):
            sent += 65_536
            yield b"x" * 65_536

    answer = await ada.post(
        "/documents/upload", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    problem(answer, 413, "body_too_large")
    assert stored_files(settings) == []


HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'


@pytest.mark.parametrize(
    "body",
    [
        HEAD + PDF,  # cut off
        HEAD + PDF + b"\r\n--b\r\n",
        b"nothing of a form",
        b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        HEAD.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"y" * 70_000 + b"\r\n\r\n") + PDF + b"\r\n--b--\r\n",
        HEAD.replace(b'"file"', b'"metadata"').replace(b'; filename="a.pdf"', b"") + b"x" * 70_000 + b"\r\n--b--\r\n",
        b"",
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(ada: Person, settings: Settings, body: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(await ada.post("/documents/upload", content=body, headers=kind), 400, "malformed_request")
    assert stored_files(settings) == []


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [(b"file", 415, "unsupported_file_type"), (b"other", 422, "validation_failed")],
)
async def test_a_sender_of_something_else_is_heard_to_the_end(
    ada: Person, settings: Settings, name: bytes, status: int, code: str
) -> None:
    sent = 0

    async def no_pdf() -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEAD.replace(b'"file"', b'"' + name + b'"')
        for _ in range(20):
            sent += 65_536
            yield b"x" * 65_536
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    problem(await ada.post("/documents/upload", content=no_pdf(), headers=kind), status, code)
    assert sent == 20 * 65_536
    assert stored_files(settings) == []


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([("file", ("a.pdf", PDF)), ("file", ("b.pdf", PDF))], 400, "malformed_request"),
        ([("other", ("a.pdf", PDF))], 422, "validation_failed"),
        ([("file", ("a.pdf", PDF)), ("surprise", (None, "x"))], 422, "validation_failed"),
        ([("file", ("a.pdf", PDF)), ("metadata", (None, "not json"))], 422, "validation_failed"),
        ([("file", ("a.pdf", PDF)), ("metadata", (None, '{"a":1}'))], 422, "validation_failed"),
        ([("file", ("a.pdf", PDF)), ("on_duplicate", (None, "maybe"))], 422, "validation_failed"),
        ([("file", ("a.pdf", PDF)), ("folder_id", (None, "fld_unknown"))], 404, "not_found"),
    ],
)
async def test_a_form_that_does_not_fit_is_refused(
    ada: Person, settings: Settings, parts: list[tuple[str, tuple[str | None, object]]], status: int, code: str
) -> None:
    answer = await ada.post("/documents/upload", files=parts)
    problem(answer, status, code)
    assert stored_files(settings) == []


async def test_an_upload_that_is_no_form_is_refused(ada: Person) -> None:
    answer = await ada.post("/documents/upload", content=PDF, headers={"Content-Type": "application/pdf"})
    problem(answer, 415, "unsupported_media_type")
    answer = await ada.post("/documents/upload", content=PDF, headers={"Content-Type": "multipart/form-data"})
    problem(answer, 400, "malformed_request")


async def test_what_happens_to_duplicates_is_for_the_sender_to_say(ada: Person, bob: Person) -> None:
    first = await ada.uploaded(PDF)
    assert (await ada.upload(PDF)).status_code == 201
    same = await ada.upload(PDF, on_duplicate="return")
    assert same.status_code == 200
    assert same.json()["sha256"] == first["sha256"]
    problem(await ada.upload(PDF, on_duplicate="reject"), 409, "duplicate_document")
    assert (await bob.upload(PDF, on_duplicate="reject")).status_code == 201  # only one's own count


async def test_lists_are_pages_newest_first(ada: Person, bob: Person) -> None:
    ids = [(await ada.uploaded(PDF, f"{number}.pdf"))["document_id"] for number in range(5)]
    await bob.uploaded(PDF)
    seen: list[str] = []
    path: str | None = "/documents?limit=2"
    while path:
        answer = await ada.get(path)
        page = answer.json()
        seen += [item["document_id"] for item in page["items"]]
        path = answer.links["next"]["url"] if page["next_cursor"] else None
        assert ("next" in answer.links) == (page["next_cursor"] is not None)
    assert seen == ids[::-1]


async def test_lists_are_narrowed_by_every_filter(ada: Person) -> None:
    folder = (await ada.post("/folders", json={"name": "F"})).json()["folder_id"]
    wanted = await ada.uploaded(PDF, "x.pdf", folder_id=folder, external_id="e-1")
    await ada.uploaded(PDF, "y.pdf")
    for query in (f"folder_id={folder}", "external_id=e-1", "filename=x.pdf", f"folder_id={folder}&status=UPLOADED"):
        found = (await ada.get(f"/documents?{query}")).json()["items"]
        assert [item["document_id"] for item in found] == [wanted["document_id"]], query
    assert (await ada.get("/documents?status=COMPLETED")).json()["items"] == []
    in_folder = (await ada.get(f"/folders/{folder}/documents")).json()["items"]
    assert [item["document_id"] for item in in_folder] == [wanted["document_id"]]
    problem(await ada.get("/documents?status=NEW"), 422, "validation_failed")
    problem(await ada.get("/documents?limit=0"), 422, "validation_failed")
    problem(await ada.get("/documents?limit=101"), 422, "validation_failed")
    problem(await ada.get("/folders/fld_unknown/documents"), 404, "not_found")


async def test_a_cursor_fits_only_the_list_it_came_from(ada: Person, bob: Person) -> None:
    for _ in range(2):
        await ada.uploaded(PDF)
        await bob.uploaded(PDF)
    cursor = (await ada.get("/documents?limit=1")).json()["next_cursor"]
    assert (await ada.get(f"/documents?limit=1&cursor={cursor}")).status_code == 200
    tampered = cursor[:-4] + ("AAAA" if cursor[-4:] != "AAAA" else "BBBB")
    for person, query in (
        (bob, f"cursor={cursor}"),
        (ada, f"cursor={cursor}&status=UPLOADED"),
        (ada, f"cursor={tampered}"),
        (ada, "cursor=x"),
        (ada, "cursor=%00"),
        (ada, "cursor=" + 5000 * "x"),
    ):
        problem(await person.get(f"/documents?{query}"), 400, "cursor_invalid")


async def test_a_document_is_changed_field_by_field(ada: Person) -> None:
    document = await ada.uploaded(PDF, external_id="e-1", metadata='{"a":"b"}')
    path = f"/documents/{document['document_id']}"
    changed = await ada.call("PATCH", path, json={"filename": "new.pdf", "external_id": None})
    assert changed.status_code == 200
    body = changed.json()
    assert (body["filename"], body["external_id"], body["metadata"]) == ("new.pdf", None, {"a": "b"})
    problem(await ada.call("PATCH", path, json={"filename": "new.docx"}), 422, "file_name_invalid")
    problem(await ada.call("PATCH", path, json={"filename": None}), 422, "validation_failed")
    problem(await ada.call("PATCH", path, json={"status": "COMPLETED"}), 422, "validation_failed")
    problem(await ada.call("PATCH", path, json={"folder_id": "fld_unknown"}), 404, "not_found")


async def test_etags_guard_reads_and_changes(ada: Person) -> None:
    document = await ada.uploaded(PDF)
    path = f"/documents/{document['document_id']}"
    etag = (await ada.get(path)).headers["etag"]
    unchanged = await ada.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    first = await ada.call("PATCH", path, json={"external_id": "1"}, headers={"If-Match": etag})
    assert first.status_code == 200
    stale = await ada.call("PATCH", path, json={"external_id": "2"}, headers={"If-Match": etag})
    problem(stale, 412, "precondition_failed")
    assert (await ada.get(path, headers={"If-None-Match": etag})).status_code == 200


async def test_a_document_that_has_changed_is_not_deleted_by_an_old_etag(ada: Person) -> None:
    path = f"/documents/{(await ada.uploaded(PDF))['document_id']}"
    etag = (await ada.get(path)).headers["etag"]
    now = (await ada.call("PATCH", path, json={"external_id": "1"})).headers["etag"]
    problem(await ada.call("DELETE", path, headers={"If-Match": etag}), 412, "precondition_failed")
    assert (await ada.get(path)).status_code == 200
    assert (await ada.call("DELETE", path, headers={"If-Match": now})).status_code == 204
    problem(await ada.call("DELETE", path, headers={"If-Match": now}), 404, "not_found")


async def test_lines_of_a_condition_are_one_list(ada: Person) -> None:
    path = f"/documents/{(await ada.uploaded(PDF))['document_id']}"
    etag = (await ada.get(path)).headers["etag"]
    for tags in (('"a"', etag), (etag, '"b"')):
        sent = [*ada.auth.items(), *(("If-None-Match", tag) for tag in tags)]
        assert (await ada.http.get(path, headers=sent)).status_code == 304
    sent = [*ada.auth.items(), ("If-Match", '"a"'), ("If-Match", etag)]
    assert (await ada.http.delete(path, headers=sent)).status_code == 204


async def test_log_lines_of_a_document_name_its_attempt(ada: Person) -> None:
    with capture_logs() as lines:
        document_id = (await ada.uploaded(PDF))["document_id"]
        await ada.post(f"/documents/{document_id}/process")
        await ada.call("DELETE", f"/documents/{document_id}")
    told = {line["event"]: line["attempt"] for line in lines if line.get("document_id") == document_id}
    assert told == {"uploaded": 0, "deleted": 1}


async def test_the_original_comes_back_as_an_attachment(ada: Person) -> None:
    document = await ada.uploaded(PDF)
    await ada.call("PATCH", f"/documents/{document['document_id']}", json={"filename": 'we"ird ü.pdf'})
    answer = await ada.get(f"/documents/{document['document_id']}/content")
    assert (answer.status_code, answer.content) == (200, PDF)
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(PDF))
    disposition = answer.headers["content-disposition"]
    assert disposition == "attachment; filename=\"we_ird _.pdf\"; filename*=UTF-8''we%22ird%20%C3%BC.pdf"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=5-999999999", 206, slice(5, None)),
        ("Bytes=5-" + "9" * 25, 206, slice(5, None)),
        ("bytes=-" + "9" * 5000, 206, slice(None)),
        ("bytes=0005-0009", 206, slice(5, 10)),
        ("bytes=999999999-", 416, None),
        ("bytes=" + "9" * 5000 + "-", 416, None),
        ("bytes=-0", 416, None),
        ("lines=1-2", 200, slice(None)),
        ("bytes=5-1", 200, slice(None)),
        ("bytes=a-b", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("", 200, slice(None)),
    ],
)
async def test_one_byte_range_is_served_and_what_is_none_ignored(
    ada: Person, asked: str, status: int, part: slice | None
) -> None:
    document = await ada.uploaded(PDF)
    answer = await ada.get(f"/documents/{document['document_id']}/content", headers={"Range": asked})
    if part is None:
        problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(PDF)}"
    else:
        assert (answer.status_code, answer.content) == (status, PDF[part])


async def test_a_range_of_another_version_gives_the_whole(ada: Person) -> None:
    path = f"/documents/{(await ada.uploaded(PDF))['document_id']}/content"
    etag = (await ada.get(path)).headers["etag"]
    assert (await ada.get(path, headers={"Range": "bytes=0-0", "If-Range": etag})).status_code == 206
    assert (await ada.get(path, headers={"Range": "bytes=0-0", "If-Range": '"old"'})).status_code == 200
    assert (await ada.get(path, headers={"If-None-Match": etag})).status_code == 304


async def test_a_content_url_works_without_signing_in_until_altered(http: httpx.AsyncClient, ada: Person) -> None:
    document = await ada.uploaded(PDF, "x.pdf")
    answer = (await ada.get(f"/documents/{document['document_id']}/content-url")).json()
    assert set(answer) == {"url", "expires_at"}
    served = await http.get(answer["url"])
    assert (served.status_code, served.content) == (200, PDF)
    assert served.headers["content-disposition"].startswith("attachment;")
    assert (await http.get(answer["url"].replace("application%2Fpdf", "text%2Fhtml"))).status_code == 403
    assert (await http.get(urlsplit(answer["url"]).path)).status_code == 403


async def test_a_deleted_document_is_gone_with_its_bytes(container: Container, ada: Person, settings: Settings) -> None:
    document = await ada.uploaded(PDF)
    path = f"/documents/{document['document_id']}"
    assert (await ada.call("DELETE", path)).status_code == 204
    for gone in (path, f"{path}/content", f"{path}/status", f"{path}/content-url"):
        problem(await ada.get(gone), 404, "not_found")
    problem(await ada.call("DELETE", path), 404, "not_found")
    assert (await ada.get("/documents")).json()["items"] == []
    await container.documents.upkeep().remove_deleted()
    assert stored_files(settings) == []


async def test_someone_elses_document_is_not_there(ada: Person, bob: Person) -> None:
    document = await ada.uploaded(PDF)
    path = f"/documents/{document['document_id']}"
    calls = [
        ("GET", path), ("PATCH", path), ("DELETE", path), ("GET", f"{path}/content"), ("GET", f"{path}/content-url"),
        ("GET", f"{path}/status"), ("GET", f"{path}/result"), ("GET", f"{path}/result/text"),
        ("GET", f"{path}/thumbnail"), ("POST", f"{path}/process"), ("POST", f"{path}/cancel"),
    ]  # fmt: skip
    for method, call in calls:
        options: dict[str, Any] = {"json": {}} if method in {"POST", "PATCH"} else {}
        foreign = problem(await bob.call(method, call, **options), 404, "not_found")
        missing = await bob.call(method, call.replace(document["document_id"], "doc_" + "0" * 26), **options)
        assert {**foreign, "request_id": ""} == {**problem(missing, 404, "not_found"), "request_id": ""}
    assert (await ada.get(path)).json() == document
