"""Asking for processing, as the API sees it; what workers do is in tests/integration."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from app.container import Container
from app.documents.domain.document import RunResult, StoredObject
from app.documents.domain.processors import ProcessingError
from tests.api.conftest import RecordedWakeUps
from tests.clients import Person, problem
from tests.corpus import docxs, pdfs

PDF = pdfs.pdf(["hello"])
STATUS = {
    "document_id", "status", "progress", "message", "attempt", "processor", "error", "queued_at", "started_at",
    "finished_at", "updated_at",
}  # fmt: skip


@pytest.fixture
async def document_id(ada: Person) -> str:
    document: dict[str, str] = await ada.uploaded(PDF)
    return document["document_id"]


async def claimed(container: Container, document_id: str, attempt: int = 1) -> str:
    token = "t" * 32
    assert await container.documents.runs().claim(document_id, attempt, token=token, worker="test") is not None
    return token


async def completed(container: Container, document_id: str, files: dict[str, bytes]) -> None:
    """Ends an attempt as a worker would, with these files."""
    import hashlib
    import io

    attempt = 1
    token = await claimed(container, document_id, attempt)
    objects = {}
    for name, content in files.items():
        key = f"_dossier/results/{document_id}/{attempt}/{name}"
        await container.files().put(key, io.BytesIO(content), "application/octet-stream")
        objects[name] = StoredObject(key=key, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    result = RunResult(
        attempt=attempt, processor="extract", version="1", partial=False, warnings=(), summary=None, objects=objects
    )
    assert await container.documents.runs().complete(document_id, token, result)


async def test_asking_answers_at_once_and_wakes_a_worker(container: Container, ada: Person, document_id: str) -> None:
    answer = await ada.post(f"/documents/{document_id}/process")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/documents/{document_id}/status"
    assert answer.headers["retry-after"] == "1"
    body = answer.json()
    assert set(body) == STATUS
    assert (body["status"], body["progress"], body["attempt"], body["processor"]) == ("PROCESSING", 0, 1, "extract")
    assert (body["started_at"], body["error"]) == (None, None)
    wake_ups: Any = container.wake_ups()
    assert isinstance(wake_ups, RecordedWakeUps)
    assert wake_ups.sent == [("documents.process", document_id, 1)]


async def test_asking_twice_is_one_attempt(container: Container, ada: Person, document_id: str) -> None:
    for _ in range(3):
        answer = await ada.post(f"/documents/{document_id}/process", json={})
        assert (answer.status_code, answer.json()["attempt"]) == (202, 1)
    wake_ups: Any = container.wake_ups()
    assert len(wake_ups.sent) == 1


async def test_a_completed_document_stays_unless_forced(container: Container, ada: Person, document_id: str) -> None:
    await ada.post(f"/documents/{document_id}/process")
    await completed(container, document_id, {"result.json": b"{}"})
    again = await ada.post(f"/documents/{document_id}/process")
    assert (again.status_code, again.json()["status"], again.json()["attempt"]) == (200, "COMPLETED", 1)
    forced = await ada.post(f"/documents/{document_id}/process", json={"force": True})
    assert (forced.status_code, forced.json()["attempt"]) == (202, 2)


async def test_a_failed_document_may_be_processed_again(container: Container, ada: Person, document_id: str) -> None:
    await ada.post(f"/documents/{document_id}/process")
    token = await claimed(container, document_id)
    await container.documents.runs().fail(document_id, token, ProcessingError.of("document_corrupt"))
    status = (await ada.get(f"/documents/{document_id}/status")).json()
    assert status["status"] == "FAILED"
    assert status["error"]["code"] == "document_corrupt"
    assert status["error"]["retryable"] is False
    failed = problem(await ada.get(f"/documents/{document_id}/result"), 409, "processing_failed")
    assert failed["errors"][0]["code"] == "document_corrupt"
    again = (await ada.post(f"/documents/{document_id}/process")).json()
    assert (again["status"], again["attempt"], again["error"]) == ("PROCESSING", 2, None)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"processor": "nope"}, "processor_unknown", "/processor"),
        ({"processor": ""}, "processor_unknown", "/processor"),
        ({"processor": "simulate", "options": {"speed": 1}}, "validation_failed", "/options/speed"),
        (
            {"processor": "simulate", "options": {"duration_seconds": 61}},
            "validation_failed",
            "/options/duration_seconds",
        ),
        ({"force": "yes"}, "validation_failed", "/force"),
        ({"when": "now"}, "validation_failed", "/when"),
    ],
)
async def test_a_wrong_request_is_named(
    ada: Person, document_id: str, body: dict[str, object], code: str, pointer: str
) -> None:
    found = problem(await ada.post(f"/documents/{document_id}/process", json=body), 422, code)
    assert found["errors"][0]["pointer"] == pointer
    assert (await ada.get(f"/documents/{document_id}/status")).json()["status"] == "UPLOADED"


async def test_status_has_an_etag_that_follows_progress(container: Container, ada: Person, document_id: str) -> None:
    path = f"/documents/{document_id}/status"
    await ada.post(f"/documents/{document_id}/process")
    etag = (await ada.get(path)).headers["etag"]
    unchanged = await ada.get(path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.headers["retry-after"], unchanged.headers["etag"]) == (304, "1", etag)
    token = await claimed(container, document_id)
    runs = container.documents.runs()
    assert await runs.beat(document_id, token, progress=40, message="reading page 2 of 5")
    assert await runs.beat(document_id, token, progress=30, message="reading page 2 of 5")
    moved = await ada.get(path, headers={"If-None-Match": etag})
    assert (moved.status_code, moved.json()["progress"]) == (200, 40)
    assert moved.headers["retry-after"] == "1"


async def test_results_are_there_once_completed(container: Container, ada: Person, document_id: str) -> None:
    for path in ("result", "result/text", "thumbnail"):
        problem(await ada.get(f"/documents/{document_id}/{path}"), 409, "result_not_ready")
    await ada.post(f"/documents/{document_id}/process")
    problem(await ada.get(f"/documents/{document_id}/result"), 409, "result_not_ready")
    stored = (
        b'{"document_id":"%s","attempt":1,"processor":{"name":"extract","version":"1"},"partial":false,'
        b'"warnings":[],"result":{"kind":"pdf"}}' % document_id.encode()
    )
    await completed(container, document_id, {"result.json": stored, "text.txt": "wörds".encode()})
    result = await ada.get(f"/documents/{document_id}/result")
    assert result.json()["status"] == "COMPLETED"
    assert result.json()["result"] == {"kind": "pdf"}
    text = await ada.get(f"/documents/{document_id}/result/text")
    assert (text.text, text.headers["content-type"]) == ("wörds", "text/plain; charset=utf-8")
    etag = text.headers["etag"]
    assert (await ada.get(f"/documents/{document_id}/result/text", headers={"If-None-Match": etag})).status_code == 304
    problem(await ada.get(f"/documents/{document_id}/thumbnail"), 404, "thumbnail_missing")


async def test_cancelling_ends_the_attempt_at_once(container: Container, ada: Person, document_id: str) -> None:
    problem(await ada.post(f"/documents/{document_id}/cancel"), 409, "not_processing")
    await ada.post(f"/documents/{document_id}/process")
    token = await claimed(container, document_id)
    answer = await ada.post(f"/documents/{document_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "FAILED")
    assert answer.json()["error"]["code"] == "cancelled"
    assert not await container.documents.runs().beat(document_id, token, progress=1, message="")


async def test_the_processors_are_listed(ada: Person, http: httpx.AsyncClient) -> None:
    found = (await ada.get("/processors")).json()
    assert [processor["name"] for processor in found][:2] == ["extract", "simulate"]
    assert set(found[0]) == {"name", "version", "content_types", "description"}
    problem(await http.get("/processors"), 401, "token_missing")


async def test_a_docx_is_processed_by_the_same_call(ada: Person) -> None:
    document = await ada.uploaded(docxs.docx(["x"]), "a.docx")
    assert (await ada.post(f"/documents/{document['document_id']}/process")).status_code == 202


async def test_waiting_answers_when_something_changes(container: Container, ada: Person, document_id: str) -> None:
    path = f"/documents/{document_id}/status"
    started = time.monotonic()
    await ada.get(path, params={"wait": 5})  # nothing is under way
    assert time.monotonic() - started < 1
    await ada.post(f"/documents/{document_id}/process")
    etag = (await ada.get(path)).headers["etag"]

    unchanged = await ada.get(path, params={"wait": 1}, headers={"If-None-Match": etag})
    assert (unchanged.status_code, time.monotonic() - started >= 1) == (304, True)

    waiting = asyncio.create_task(ada.get(path, params={"wait": 20}))
    await asyncio.sleep(0.1)
    await completed(container, document_id, {"result.json": b"{}"})
    answer = await asyncio.wait_for(waiting, 3)
    assert answer.json()["status"] == "COMPLETED"
    stale = await asyncio.wait_for(ada.get(path, params={"wait": 20}, headers={"If-None-Match": etag}), 3)
    assert stale.status_code == 200
    for odd in ("31", "-1", "nan", "x"):
        problem(await ada.get(path, params={"wait": odd}), 422, "validation_failed")


async def test_waiting_ends_when_the_server_stops(container: Container, ada: Person, document_id: str) -> None:
    await ada.post(f"/documents/{document_id}/process")
    waiting = asyncio.create_task(ada.get(f"/documents/{document_id}/status", params={"wait": 20}))
    await asyncio.sleep(0.1)
    container.stopping()._asked = True
    assert (await asyncio.wait_for(waiting, 3)).json()["status"] == "PROCESSING"
    assert (await ada.get("/health/ready")).status_code == 503
