"""Repeating a request with the same Idempotency-Key: one effect, one answer, whatever became of the first."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from dependency_injector import providers

from app.container import Container
from app.documents.domain.document import RunResult
from core.clock import utc_now
from core.errors import Overloaded
from core.http.idempotency import Idempotency
from core.mongo import MongoUnavailable
from core.storage.base import StorageUnavailable
from tests.clients import PASSWORD, Person, problem
from tests.corpus import pdfs
from tests.idempotency_twin import IdempotencyKeysTwin

PDF, OTHER_PDF = pdfs.pdf(["hello"]), pdfs.pdf(["world"])
KEY = {"Idempotency-Key": "4f9a0a5e-0a51-4b7e-9f3f-5d8f5f1f2c11"}
BOX = {"name": "Box"}


async def upload(person: Person, content: bytes = PDF, filename: str = "a.pdf", **fields: str) -> httpx.Response:
    return await person.post("/documents/upload", files={"file": (filename, content)}, data=fields, headers=KEY)


async def owned(person: Person, path: str = "/documents") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await person.get(path)).json()["items"]
    return items


def replayed(answer: httpx.Response, first: httpx.Response) -> None:
    """The same answer in all that a client can see, and it says so."""
    assert (answer.status_code, answer.content) == (first.status_code, first.content)
    assert answer.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    for name in ("content-type", "location", "etag", "retry-after"):
        assert answer.headers.get(name) == first.headers.get(name), name


def rows(container: Container, module: str) -> IdempotencyKeysTwin:
    twin: IdempotencyKeysTwin = getattr(container, module).idempotency_keys()
    return twin


def moved(twin: IdempotencyKeysTwin, field: str) -> None:
    """As if the time named by the field had passed."""
    past = utc_now() - timedelta(seconds=1)
    twin.rows = {key: row.model_copy(update={field: past}) for key, row in twin.rows.items()}


def fails(monkeypatch: pytest.MonkeyPatch, target: object, name: str, error: Exception, *, after: bool) -> None:
    """Makes the next call of a method fail, before it has its effect or after it."""
    whole: Callable[..., Any] = getattr(target, name)

    async def broken(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(target, name, whole)
        if after:
            await whole(*args, **options)
        raise error

    monkeypatch.setattr(target, name, broken)


# The same request again


async def test_a_repeated_upload_is_answered_as_the_first(ada: Person) -> None:
    first = await upload(ada, external_id="e", metadata='{"a":"1","b":"2"}')
    assert first.status_code == 201
    again = await upload(ada, metadata='{ "b": "2", "a": "1" }', external_id="e")
    assert again.request.headers["content-type"] != first.request.headers["content-type"]  # the boundaries
    replayed(again, first)
    assert [item["document_id"] for item in await owned(ada)] == [first.json()["document_id"]]
    assert (await ada.get(first.headers["location"])).content == first.content


async def test_a_repeated_folder_is_answered_as_the_first(ada: Person) -> None:
    first = await ada.post("/folders", json={"name": "Box", "source": None}, headers=KEY)
    assert (first.status_code, first.headers["etag"]) == (
        201,
        (await ada.get(first.headers["location"])).headers["etag"],
    )
    replayed(
        await ada.post("/v1/folders", content=b' {"name":"Box"}', headers=KEY | {"Content-Type": "application/json"}),
        first,
    )
    assert len(await owned(ada, "/folders")) == 1


async def test_a_repeated_process_starts_one_attempt(container: Container, ada: Person) -> None:
    path = f"/documents/{(await ada.uploaded(PDF))['document_id']}/process"
    first = await ada.post(path, headers=KEY)
    assert (first.status_code, first.headers["retry-after"]) == (202, "1")
    await ada.post(path.replace("process", "cancel"))
    replayed(await ada.post(path, json={}, headers=KEY), first)  # an absent body means all defaults
    assert (await ada.get(path.replace("process", "status"))).json()["status"] == "FAILED"
    wake_ups: Any = container.wake_ups()
    assert len(wake_ups.sent) == 1


async def test_a_repeated_registration_is_answered_as_the_first(container: Container, http: httpx.AsyncClient) -> None:
    body = {"email": "eve@example.com", "password": PASSWORD}
    first = await http.post("/auth/register", json=body, headers=KEY)
    assert first.status_code == 201
    replayed(await http.post("/auth/register", json=body, headers=KEY), first)
    problem(await http.post("/auth/register", json=body), 409, "email_taken")
    guess = {**body, "password": "another password"}
    problem(await http.post("/auth/register", json=guess, headers=KEY), 422, "idempotency_mismatch")
    assert PASSWORD not in repr(rows(container, "users").rows)


async def test_signing_in_takes_no_part(container: Container, ada: Person) -> None:
    body = {"email": ada.email, "password": PASSWORD}
    tokens = {(await ada.http.post("/auth/login", json=body, headers=KEY)).json()["refresh_token"] for _ in range(2)}
    assert len(tokens) == 2
    assert rows(container, "users").rows == {}


async def test_without_a_key_nothing_is_remembered(container: Container, ada: Person) -> None:
    await ada.uploaded(PDF)
    await ada.uploaded(PDF)
    assert len(await owned(ada)) == 2
    assert rows(container, "documents").rows == {}


async def test_of_fifty_at_once_one_has_the_effect(ada: Person) -> None:
    answers = await asyncio.gather(*(upload(ada) for _ in range(50)))
    first = [answer for answer in answers if answer.status_code == 201 and "idempotency-replayed" not in answer.headers]
    assert len(first) == 1
    for answer in answers:
        if answer.status_code == 409:
            problem(answer, 409, "idempotency_in_progress")
            assert answer.headers["retry-after"] == "1"
        elif answer is not first[0]:
            replayed(answer, first[0])
    replayed(await upload(ada), first[0])
    assert len(await owned(ada)) == 1


# Another request


@pytest.mark.parametrize(
    ("content", "filename", "fields"),
    [(OTHER_PDF, "a.pdf", {}), (PDF, "b.pdf", {}), (PDF, "a.pdf", {"external_id": "e"}), (PDF, "a.docx", {})],
)
async def test_another_upload_under_the_same_key_is_refused(
    ada: Person, content: bytes, filename: str, fields: dict[str, str]
) -> None:
    first = await upload(ada)
    refused = problem(await upload(ada, content, filename, **fields), 422, "idempotency_mismatch")
    assert refused["errors"][0]["pointer"] == "/Idempotency-Key"
    replayed(await upload(ada), first)
    assert len(await owned(ada)) == 1


async def test_the_same_body_to_another_path_is_another_request(ada: Person) -> None:
    one, other = [(await ada.uploaded(content))["document_id"] for content in (PDF, OTHER_PDF)]
    assert (await ada.post(f"/documents/{one}/process", headers=KEY)).status_code == 202
    problem(await ada.post(f"/documents/{other}/process", headers=KEY), 422, "idempotency_mismatch")


async def test_another_person_and_another_route_have_keys_of_their_own(ada: Person, bob: Person) -> None:
    answers = [await upload(ada), await upload(bob), await ada.post("/folders", json=BOX, headers=KEY)]
    path = f"/documents/{answers[0].json()['document_id']}/process"
    answers.append(await ada.post(path, headers=KEY))
    assert [answer.status_code for answer in answers] == [201, 201, 201, 202]
    assert not [answer for answer in answers if "idempotency-replayed" in answer.headers]
    assert answers[0].json()["document_id"] != answers[1].json()["document_id"]


@pytest.mark.parametrize("key", [b"", b"two words", b"caf\xe9", b"tab\tbed", b"x" * 256])
async def test_a_key_that_does_not_fit_is_refused(ada: Person, key: bytes) -> None:
    refused = await ada.post("/folders", json=BOX, headers={"Idempotency-Key": key})
    assert problem(refused, 422, "validation_failed")["errors"][0]["pointer"] == "/Idempotency-Key"
    assert await owned(ada, "/folders") == []


@pytest.mark.parametrize("key", ["!", "~" * 255, '"quoted"', "$where", "a/b?c=d"])
async def test_any_visible_ascii_is_a_key(ada: Person, key: str) -> None:
    first = await ada.post("/folders", json=BOX, headers={"Idempotency-Key": key})
    replayed(await ada.post("/folders", json=BOX, headers={"Idempotency-Key": key}), first)


async def test_two_keys_are_none(ada: Person) -> None:
    headers = [*ada.auth.items(), *KEY.items(), ("idempotency-key", "other")]
    problem(await ada.http.post("/folders", json=BOX, headers=headers), 400, "malformed_request")


# A refused first request


async def test_a_refused_upload_frees_the_key(ada: Person) -> None:
    problem(await upload(ada, b"no document"), 415, "unsupported_file_type")
    problem(await upload(ada, PDF, folder_id="fld_missing"), 404, "not_found")
    problem(await upload(ada, PDF, metadata="["), 422, "validation_failed")
    first = await upload(ada)
    assert first.status_code == 201
    replayed(await upload(ada), first)


async def test_a_refused_folder_frees_the_key(ada: Person) -> None:
    await ada.post("/folders", json=BOX)
    problem(await ada.post("/folders", json=BOX, headers=KEY), 409, "folder_exists")
    problem(await ada.post("/folders", json={"name": 7}, headers=KEY), 422, "validation_failed")
    assert (await ada.post("/folders", json={"name": "Other"}, headers=KEY)).status_code == 201


async def test_a_busy_service_frees_the_key(
    container: Container, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, container.passwords(), "hash", Overloaded(), after=False)
    body = {"email": "eve@example.com", "password": PASSWORD}
    problem(await http.post("/auth/register", json=body, headers=KEY), 503, "overloaded")
    answer = await http.post("/auth/register", json={**body, "name": "Eve"}, headers=KEY)
    assert (answer.status_code, answer.json()["name"]) == (201, "Eve")


# A first request whose outcome nobody knows


@pytest.mark.parametrize("error", [MongoUnavailable(), RuntimeError("died")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("on_duplicate", ["allow", "reject", "return"])
async def test_a_repeat_finds_the_document_that_was_stored_unnoticed(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch, error: Exception, on_duplicate: str
) -> None:
    fails(monkeypatch, container.documents.documents(), "add", error, after=True)
    assert (await upload(ada, on_duplicate=on_duplicate)).status_code in {500, 503}
    stored = await owned(ada)
    problem(await upload(ada, OTHER_PDF), 422, "idempotency_mismatch")
    again = await upload(ada, on_duplicate=on_duplicate)
    assert (again.status_code, again.json()) == (201, stored[0])
    assert "idempotency-replayed" not in again.headers
    replayed(await upload(ada, on_duplicate=on_duplicate), again)
    assert await owned(ada) == stored


async def test_a_repeat_does_what_the_first_did_not_get_to(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, container.files(), "put", StorageUnavailable(), after=True)
    problem(await upload(ada), 503, "dependency_unavailable")
    first = await upload(ada)
    assert first.status_code == 201
    replayed(await upload(ada), first)
    assert (await ada.get(f"{first.headers['location']}/content")).content == PDF


@pytest.mark.parametrize("module", ["folders", "users"])
async def test_a_repeat_finds_the_folder_or_account_that_was_stored_unnoticed(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    path, body = {
        "folders": ("/folders", BOX),
        "users": ("/auth/register", {"email": "eve@example.com", "password": PASSWORD}),
    }[module]
    repository = container.folders.folders() if module == "folders" else container.users.users()
    fails(monkeypatch, repository, "add", MongoUnavailable(), after=True)
    problem(await ada.post(path, json=body, headers=KEY), 503, "dependency_unavailable")
    again = await ada.post(path, json=body, headers=KEY)
    assert again.status_code == 201
    replayed(await ada.post(path, json=body, headers=KEY), again)
    (row,) = rows(container, module).rows.values()
    made = again.json()["folder_id" if module == "folders" else "user_id"]
    assert made.partition("_")[2] == row.command_id.partition("_")[2]


async def test_a_repeat_finds_its_own_attempt_and_forces_no_second(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id, runs = (await ada.uploaded(PDF))["document_id"], container.documents.runs()
    path, body = f"/documents/{document_id}/process", {"force": True}
    fails(monkeypatch, runs, "request", MongoUnavailable(), after=True)
    problem(await ada.post(path, json=body, headers=KEY), 503, "dependency_unavailable")
    assert await runs.claim(document_id, 1, token="t", worker="w") is not None
    result = RunResult(
        attempt=1, processor="extract", version="1", partial=False, warnings=(), summary=None, objects={}
    )
    assert await runs.complete(document_id, "t", result)

    again = await ada.post(path, json=body, headers=KEY)
    assert (again.status_code, again.json()["status"], again.json()["attempt"]) == (200, "COMPLETED", 1)
    replayed(await ada.post(path, json=body, headers=KEY), again)
    fresh = await ada.post(path, json=body, headers={"Idempotency-Key": "fresh"})
    assert (fresh.status_code, fresh.json()["attempt"]) == (202, 2)


async def test_a_taken_over_key_stays_bound_though_the_repeat_is_refused(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, container.folders.folders(), "add", MongoUnavailable(), after=False)
    problem(await ada.post("/folders", json=BOX, headers=KEY), 503, "dependency_unavailable")
    await ada.post("/folders", json=BOX)
    for _ in range(2):
        problem(await ada.post("/folders", json=BOX, headers=KEY), 409, "folder_exists")
    problem(await ada.post("/folders", json={"name": "Other"}, headers=KEY), 422, "idempotency_mismatch")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first, repeat", "repeat, first"])
async def test_a_holder_whose_lease_ran_out_and_its_successor_make_one_document(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    files, stalled = container.files(), asyncio.Queue[asyncio.Event]()
    whole = files.put

    async def stalling(*args: Any) -> None:
        go_on = asyncio.Event()
        stalled.put_nowait(go_on)
        await go_on.wait()
        await whole(*args)

    monkeypatch.setattr(files, "put", stalling)
    first = asyncio.create_task(upload(ada))
    both = [(first, await stalled.get())]
    problem(await upload(ada), 409, "idempotency_in_progress")
    moved(rows(container, "documents"), "locked_until")
    both.append((asyncio.create_task(upload(ada)), await stalled.get()))
    for number in order:
        task, go_on = both[number]
        go_on.set()
        assert (await task).status_code == 201
    assert first.result().content == (await both[1][0]).content
    assert len(await owned(ada)) == 1
    assert (await ada.get(f"{first.result().headers['location']}/content")).content == PDF


async def test_a_lost_note_of_the_answer_costs_nobody_the_answer(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, rows(container, "folders"), "finish", MongoUnavailable(), after=False)
    first = await ada.post("/folders", json=BOX, headers=KEY)
    assert first.status_code == 201
    moved(rows(container, "folders"), "locked_until")
    again = await ada.post("/folders", json=BOX, headers=KEY)
    assert again.json() == first.json()


# Time, and secrets


async def test_the_lease_is_renewed_while_the_first_is_at_work(
    container: Container, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = IdempotencyKeysTwin(utc_now, lease_s=0.2)
    quick = Idempotency(twin, container.fingerprint_secrets(), renew_every_s=0.05)
    container.folders.idempotency.override(providers.Object(quick))
    folders = container.folders.folders()
    whole = folders.add

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(0.6)
        return await whole(*args)

    monkeypatch.setattr(folders, "add", slow)
    first = asyncio.create_task(ada.post("/folders", json=BOX, headers=KEY))
    await asyncio.sleep(0.4)
    problem(await ada.post("/folders", json=BOX, headers=KEY), 409, "idempotency_in_progress")
    done = await first
    replayed(await ada.post("/folders", json=BOX, headers=KEY), done)


async def test_a_key_is_forgotten_after_a_day(container: Container, ada: Person) -> None:
    first = await upload(ada)
    (row,) = rows(container, "documents").rows.values()
    assert timedelta(hours=23, minutes=59) < row.expires_at - utc_now() <= timedelta(hours=24)
    moved(rows(container, "documents"), "expires_at")
    again = await upload(ada)
    assert again.status_code == 201
    assert again.json()["document_id"] != first.json()["document_id"]


async def test_fingerprints_outlive_a_change_of_secrets_as_long_as_the_old_one_reads(
    container: Container, ada: Person
) -> None:
    def with_secrets(*secrets: bytes) -> None:
        shared = Idempotency(rows(container, "folders"), secrets)
        container.folders.idempotency.override(providers.Object(shared))

    with_secrets(b"old")
    first = await ada.post("/folders", json=BOX, headers=KEY)
    with_secrets(b"new", b"old")
    replayed(await ada.post("/folders", json=BOX, headers=KEY), first)
    with_secrets(b"new")
    problem(await ada.post("/folders", json=BOX, headers=KEY), 422, "idempotency_mismatch")


async def test_openapi_names_the_header_where_something_is_created_or_started(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    taking_part = {
        path for path, item in paths.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in item.get("post", {}).get("parameters", ()))
    }  # fmt: skip
    assert taking_part >= {
        "/auth/register", "/documents/upload", "/documents/{document_id}/process", "/folders", "/webhooks",
        "/webhooks/{webhook_id}/test", "/webhooks/{webhook_id}/rotate-secret", "/webhooks/{webhook_id}/recover",
        "/webhooks/deliveries/{delivery_id}/redeliver",
    }  # fmt: skip
    for path in taking_part:
        answers = paths[path]["post"]["responses"]
        assert "idempotency_mismatch" in answers["422"]["description"]
        assert "idempotency_in_progress" in answers["409"]["description"]
