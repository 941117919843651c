"""Every route of the OpenAPI document, with no token and with a stranger's: generated, so that none is forgotten."""

import re
from typing import Any

import httpx
import pytest

from tests.clients import Person, problem
from tests.corpus import pdfs

# What a valid call needs beside its path. A new route with a body belongs here.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/documents/upload"): {"files": {"file": ("a.pdf", pdfs.pdf(["x"]))}},
    ("post", "/documents/uploads"): {"json": {"filename": "a.pdf", "size": 9, "content_type": "application/pdf"}},
    ("post", "/documents/uploads/{upload_id}/complete"): {"json": {}},
    ("patch", "/documents/{document_id}"): {"json": {"external_id": "stolen"}},
    ("post", "/documents/{document_id}/process"): {"json": {}},
    ("post", "/documents/{document_id}/cancel"): {},
    ("post", "/folders"): {"json": {"name": "new"}},
    ("post", "/folders/sync"): {"json": {}},
    ("patch", "/folders/{folder_id}"): {"json": {"name": "stolen"}},
    ("post", "/webhooks"): {"json": {"url": "https://hooks.example.com/", "events": ["document.completed"]}},
    ("patch", "/webhooks/{webhook_id}"): {"json": {"status": "disabled"}},
    ("post", "/webhooks/{webhook_id}/test"): {},
    ("post", "/webhooks/{webhook_id}/rotate-secret"): {},
    ("post", "/webhooks/{webhook_id}/recover"): {"json": {"since": "2026-01-31T10:00:00Z"}},
    ("post", "/webhooks/deliveries/{delivery_id}/redeliver"): {},
    ("post", "/users/me/password"): {"json": {"current_password": "x" * 12, "new_password": "y" * 12}},
    ("post", "/auth/logout"): {},
    ("post", "/auth/logout-all"): {},
}


async def operations(http: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Method and path of every operation that asks for a person."""
    spec = (await http.get("/openapi.json")).json()
    return [
        (method, path)
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if {"bearer": []} in operation["security"]
    ]


@pytest.fixture
async def adas(http: httpx.AsyncClient, ada: Person) -> dict[str, str]:
    """One of everything that has an id, Ada's."""
    folder = (await ada.post("/folders", json={"name": "Private"})).json()["folder_id"]
    document = await ada.uploaded(pdfs.pdf(["private"]), folder_id=folder)
    ids = {"folder_id": folder, "document_id": document["document_id"]}
    wanted: dict[str, Any] = {"filename": "a.pdf", "size": 9, "content_type": "application/pdf"}
    ids["upload_id"] = (await ada.post("/documents/uploads", json=wanted)).json()["upload_id"]
    await ada.post("/folders", json={"name": "Scanned", "source": "s3://dossier/private/"})
    ids["sync_id"] = (await ada.post("/folders/sync")).json()["sync_id"]
    wanted = {"url": "https://hooks.example.com/", "events": ["document.completed"]}
    ids["webhook_id"] = (await ada.post("/webhooks", json=wanted)).json()["webhook_id"]
    ids["delivery_id"] = (await ada.post(f"/webhooks/{ids['webhook_id']}/test")).json()["delivery_id"]
    sessions = await ada.get("/auth/sessions")
    if sessions.status_code == 200:
        ids["session_id"] = sessions.json()["items"][0]["session_id"]
    return ids


async def test_nobody_gets_past_the_door(http: httpx.AsyncClient, adas: dict[str, str]) -> None:
    for method, path in await operations(http):
        answer = await http.request(method, path.format(**adas), **BODIES.get((method, path), {}))
        problem(answer, 401, "token_missing")


async def test_a_stranger_sees_what_is_not_there(
    http: httpx.AsyncClient, ada: Person, bob: Person, adas: dict[str, str]
) -> None:
    for method, path in await operations(http):
        parameters = re.findall(r"{(\w+)}", path)
        if not parameters:
            continue
        assert method in {"get", "delete"} or (method, path) in BODIES, f"how is {method} {path} called?"
        answers = []
        prefixes = {name: value.split("_")[0] for name, value in adas.items()}
        for ids in (
            adas,
            {name: f"{prefix}_{'0' * 26}" for name, prefix in prefixes.items()},
            dict.fromkeys(adas, "x"),
            dict.fromkeys(adas, "%00$ne"),
        ):
            answer = await bob.call(method, path.format(**ids), **BODIES.get((method, path), {}))
            answers.append({**problem(answer, 404, "not_found"), "request_id": ""})
        assert all(answer == answers[0] for answer in answers), path
    assert (await ada.get(f"/documents/{adas['document_id']}")).json()["external_id"] is None
    assert (await ada.get(f"/folders/{adas['folder_id']}")).json()["name"] == "Private"


async def test_lists_hold_only_ones_own(http: httpx.AsyncClient, bob: Person, adas: dict[str, str]) -> None:
    for method, path in await operations(http):
        if method == "get" and "{" not in path:
            answer = await bob.get(path)
            assert not any(value in answer.text for value in adas.values()), path
    queries = [f"{name}={value}" for name, value in adas.items()] + ["filename[$ne]=x", "status=UPLOADED"]
    for query in queries:
        assert (await bob.get(f"/documents?{query}")).json().get("items", []) == []


async def test_operators_in_a_field_are_text_or_refused(ada: Person) -> None:
    await ada.uploaded(pdfs.pdf(["x"]), "a.pdf")
    for value in ("$ne", '{"$ne":null}', ".*", "a.pdf\u0000"):
        found = await ada.get("/documents", params={"filename": value, "external_id": value})
        assert found.status_code in {200, 422}
        assert found.json().get("items", []) == []
    for body in ({"name": {"$ne": None}}, {"name": ["x"]}, {"name": "x", "$set": {}}):
        problem(await ada.post("/folders", json=body), 422, "validation_failed")
