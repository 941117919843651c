"""Asking for a sync, and the door at which a scan service reports."""

import json
import time
from typing import Any

import httpx
import pytest
from dependency_injector import providers
from pydantic import SecretStr

from app.container import Container, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.folders.adapter.mongo_syncs import SyncRecord
from app.folders.adapter.scan_orders import HttpScanOrders
from app.scans.contracts import ScanOrder, ScanState
from core.config import ConfigError, Settings
from core.errors import Unavailable
from core.security.signing import sign, signing_key
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET, Person, problem
from tests.corpus import pdfs

SOURCE = "s3://dossier/imports/"


class Scans:
    """A scan service that is away."""

    def __init__(self) -> None:
        self.orders: list[tuple[ScanOrder, str | None]] = []

    async def order(self, order: ScanOrder, command_id: str | None) -> ScanState:
        self.orders.append((order, command_id))
        raise Unavailable


@pytest.fixture
async def folder_id(ada: Person) -> str:
    folder = (await ada.post("/folders", json={"name": "Imports", "source": SOURCE})).json()
    return str(folder["folder_id"])


@pytest.fixture
async def sync(ada: Person, folder_id: str) -> dict[str, Any]:
    answer = await ada.post("/folders/sync")
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def message(sync: dict[str, Any], **other: Any) -> bytes:
    found = {
        "path": "imports/a.pdf", "filename": "a.pdf", "size": 1, "etag": "e", "content_type": "application/pdf",
        "last_modified": "2026-01-31T10:00:00Z",
    }  # fmt: skip
    body = {
        "type": "scan.batch", "scan_id": "scn_1", "correlation_id": sync["sync_id"],
        "folder_id": sync["folders"][0]["folder_id"], "batch": 0, "documents": [found], **other,
    }  # fmt: skip
    return json.dumps(body).encode()


def headers(body: bytes, **changed: str | None) -> dict[str, str]:
    signed = sign([signing_key(SIGNING_SECRET)], "msg_1", int(time.time()), body)
    given: dict[str, str | None] = {"private-token": PRIVATE_TOKEN, "content-type": "application/json", **signed}
    return {name: value for name, value in {**given, **changed}.items() if value is not None}


async def nothing_is_stored(sync: dict[str, Any]) -> bool:
    row: Any = await SyncRecord.get_pymongo_collection().find_one({"_id": sync["sync_id"]})
    untouched = (row["status"], row["batches"], row["end"], row["scan_id"]) == ("PENDING", {}, None, None)
    return untouched and not await DocumentRecord.get_pymongo_collection().count_documents({})


async def test_a_sync_is_accepted_at_once(ada: Person, container: Container, folder_id: str) -> None:
    answer = await ada.post("/folders/sync", json={"folder_ids": [folder_id, folder_id]})
    assert answer.status_code == 202
    sync = answer.json()
    path = f"/folders/syncs/{sync['sync_id']}"
    assert (answer.headers["location"], answer.headers["retry-after"]) == (path, "2")
    assert sync == {
        "sync_id": sync["sync_id"], "status": "PENDING", "folders": [{"folder_id": folder_id, "source": SOURCE}],
        "batches_received": 0, "documents_seen": 0, "documents_created": 0, "documents_updated": 0,
        "documents_missing": 0, "error": None, "created_at": sync["created_at"], "finished_at": None,
    }  # fmt: skip
    wake_ups: Any = container.wake_ups()
    assert ("folders.order_scans", sync["sync_id"]) in wake_ups.sent
    found = await ada.get(path)
    assert (found.json(), found.headers["retry-after"]) == (sync, "2")
    assert (await ada.get(f"/v1{path}", headers={"If-None-Match": found.headers["etag"]})).status_code == 304


async def test_without_folders_all_that_have_a_source_are_meant(ada: Person, bob: Person, folder_id: str) -> None:
    await ada.post("/folders", json={"name": "Plain"})
    await bob.post("/folders", json={"name": "Theirs", "source": SOURCE})
    for body in (None, {}, {"folder_ids": None}):
        answer = await ada.post("/folders/sync", json=body) if body is not None else await ada.post("/folders/sync")
        assert [folder["folder_id"] for folder in answer.json()["folders"]] == [folder_id]


async def test_what_cannot_be_synced_is_refused(ada: Person, bob: Person, folder_id: str) -> None:
    plain = (await bob.post("/folders", json={"name": "Plain"})).json()["folder_id"]
    for named in ([folder_id], [plain, "fld_nowhere"], ["$ne"]):
        problem(await bob.post("/folders/sync", json={"folder_ids": named}), 404, "not_found")
    refused = problem(await bob.post("/folders/sync", json={"folder_ids": [plain]}), 422, "validation_failed")
    assert refused["errors"][0]["pointer"] == "/folder_ids/0"
    problem(await bob.post("/folders/sync"), 422, "validation_failed")
    odd: tuple[dict[str, object], ...] = (
        {"folder_ids": []}, {"folder_ids": "x"}, {"folder_ids": [1]}, {"folder": "x"}, {"folder_ids": ["x"] * 501},
    )  # fmt: skip
    for body in odd:
        problem(await bob.post("/folders/sync", json=body), 422, "validation_failed")
    assert await SyncRecord.get_pymongo_collection().count_documents({}) == 0


async def test_a_repeated_request_starts_one_sync(ada: Person, folder_id: str) -> None:
    answers = [await ada.post("/folders/sync", headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert answers[1].headers["location"] == answers[0].headers["location"]
    problem(
        await ada.post("/folders/sync", json={"folder_ids": [folder_id]}, headers={"Idempotency-Key": "k1"}),
        422, "idempotency_mismatch",
    )  # fmt: skip


async def test_someone_elses_sync_is_not_there(ada: Person, bob: Person, sync: dict[str, Any]) -> None:
    path = f"/folders/syncs/{sync['sync_id']}"
    problem(await bob.get(path), 404, "not_found")
    problem(await ada.get("/folders/syncs/syn_unknown"), 404, "not_found")
    problem(await ada.get("/folders/sync"), 405, "method_not_allowed")


class TestWithoutScans:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"app_modules": ("users", "folders", "documents")})

    async def test_there_is_nobody_to_ask(self, ada: Person, folder_id: str) -> None:
        for _ in range(2):
            answer = await ada.post("/folders/sync", headers={"Idempotency-Key": "k"})
            problem(answer, 503, "dependency_unavailable")
            assert answer.headers["retry-after"] == "5"


async def test_a_scan_service_elsewhere_takes_no_order_without_a_token(settings: Settings) -> None:
    elsewhere = {"app_modules": ("users", "folders", "documents"), "scans_url": "https://scans.example.com"}
    with pytest.raises(ConfigError, match=r"^SCANS_PRIVATE_TOKEN: "):
        build_container(settings.model_copy(update=elsewhere), "api")
    container = build_container(
        settings.model_copy(update={**elsewhere, "scans_private_token": SecretStr("token")}), "api"
    )
    assert isinstance(container.folders.scan_orders(), HttpScanOrders)


async def test_the_scan_is_ordered_in_the_background(ada: Person, container: Container, folder_id: str) -> None:
    scans = Scans()
    container.folders.scans_here.override(providers.Object(lambda: scans))
    sync = (await ada.post("/folders/sync")).json()
    assert scans.orders == []
    await container.folders.syncs().order(sync["sync_id"])
    order, command_id = scans.orders[0]
    assert (order.user_id, order.correlation_id, command_id) == (ada.user_id, sync["sync_id"], sync["sync_id"])
    assert (await ada.get(f"/folders/syncs/{sync['sync_id']}")).json()["status"] == "PENDING"  # ordered again later


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"private-token": None}, "api_key_missing"),
        ({"private-token": "wrong" * 6}, "api_key_invalid"),
        ({"authorization": "Bearer x"}, "api_key_invalid"),
        ({"webhook-signature": None}, "signature_invalid"),
        ({"webhook-signature": "v1,AAAA"}, "signature_invalid"),
        ({"webhook-signature": "x" * 3000}, "signature_invalid"),
        ({"webhook-id": "a.b"}, "signature_invalid"),
        ({"webhook-timestamp": "soon"}, "signature_invalid"),
        ({"webhook-timestamp": "1700000000"}, "signature_invalid"),
    ],
)
async def test_an_unknown_sender_is_refused_before_anything_is_read(
    http: httpx.AsyncClient, sync: dict[str, Any], changed: dict[str, str | None], code: str
) -> None:
    body = message(sync)
    answer = await http.post("/callbacks/scans", content=body, headers=headers(body, **changed))
    problem(answer, 401, code)
    assert "www-authenticate" in answer.headers
    assert await nothing_is_stored(sync)


async def test_what_was_signed_long_ago_is_expired(http: httpx.AsyncClient, sync: dict[str, Any]) -> None:
    body = message(sync)
    for off in (-400, 400):
        old = sign([signing_key(SIGNING_SECRET)], "msg_1", int(time.time()) + off, body)
        answer = await http.post("/callbacks/scans", content=body, headers=headers(body, **old))
        problem(answer, 401, "signature_expired")
    assert await nothing_is_stored(sync)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_request"),
        (b"\xff\xfe", 400, "malformed_request"),
        (b'{"type":"scan.batch","type":"scan.batch"}', 400, "malformed_request"),
        (b'{"size":NaN}', 400, "malformed_request"),
        (b"[" * 100 + b"]" * 100, 400, "malformed_request"),
        (b"[]", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b'{"type":"scan.batch","scan_id":"\\ud800"}', 422, "validation_failed"),
        (b'{"type":"scan.batch"}', 422, "validation_failed"),
        (b'{"type":"scan.completed","total_batches":1e400}', 400, "malformed_request"),
    ],
)
async def test_signed_nonsense_is_refused(
    http: httpx.AsyncClient, sync: dict[str, Any], body: bytes, status: int, code: str
) -> None:
    problem(await http.post("/callbacks/scans", content=body, headers=headers(body)), status, code)
    assert await nothing_is_stored(sync)


async def test_a_submitted_name_is_not_repeated_in_an_error(http: httpx.AsyncClient, sync: dict[str, Any]) -> None:
    body = message(sync, **{"<script>": 1})
    answer = await http.post("/callbacks/scans", content=body, headers=headers(body))
    refused = problem(answer, 422, "validation_failed")
    assert refused["errors"] == [{"pointer": "", "code": "extra_forbidden", "message": "The value is not acceptable."}]


async def test_a_message_about_something_else_is_not_found(
    ada: Person, bob: Person, http: httpx.AsyncClient, sync: dict[str, Any]
) -> None:
    theirs = (await bob.post("/folders", json={"name": "Theirs", "source": SOURCE})).json()["folder_id"]
    for other in ({"correlation_id": "syn_other"}, {"folder_id": theirs}, {"folder_id": "$ne"}):
        body = message(sync, **other)
        problem(await http.post("/callbacks/scans", content=body, headers=headers(body)), 404, "not_found")
    assert await nothing_is_stored(sync)


async def test_a_body_over_four_mebibytes_is_refused(http: httpx.AsyncClient, sync: dict[str, Any]) -> None:
    body = message(sync) + b" " * (4 * 1024 * 1024)
    problem(await http.post("/callbacks/scans", content=body, headers=headers(body)), 413, "body_too_large")
    whole = message(sync, correlation_id="syn_other") + b" " * (4 * 1024 * 1024 - 1000)
    problem(await http.post("/callbacks/scans", content=whole, headers=headers(whole)), 404, "not_found")
    assert await nothing_is_stored(sync)


async def test_a_folder_with_scanned_documents_stays(ada: Person, folder_id: str) -> None:
    document = await ada.uploaded(pdfs.pdf(["x"]), folder_id=folder_id)
    source = {"folder_id": folder_id, "bucket": "dossier", "path": "imports/a.pdf", "etag": "e", "generation": 1,
              "created_generation": 1}  # fmt: skip
    await DocumentRecord.get_pymongo_collection().update_one(
        {"_id": document["document_id"]}, {"$set": {"source": source, "key": "imports/a.pdf", "sha256": None}}
    )
    problem(await ada.call("DELETE", f"/folders/{folder_id}"), 409, "folder_not_empty")
    shown = (await ada.get(f"/folders/{folder_id}/documents")).json()["items"]
    assert [(item["document_id"], item["sha256"]) for item in shown] == [(document["document_id"], None)]
    assert set(shown[0]) == set(document)
    gone = await ada.get(f"/documents/{document['document_id']}/content")
    problem(gone, 404, "not_found")  # the host has no such object (any more)
