"""The scan service as a host application sees it: ordering scans and following them."""

import time
from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest
from dependency_injector import providers

from app.container import Container, build_container
from app.scans.adapter.mongo import ScanRecord
from core.config import ConfigError, Settings, load_settings
from core.security.egress import EgressClient
from core.security.signing import sign, signing_key
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET, problem

HOST = "https://host.example.com/dossier/callbacks"
TOKEN = {"Private-Token": PRIVATE_TOKEN}
ORDER = {
    "user_id": "7",
    "folders": [{"folder_id": "11", "source": "s3://dossier/2026/"}],
    "callback": "default",
    "correlation_id": "sync-1",
}
ADDRESSES = {
    "host.example.com": "93.184.215.14",
    "inside.example.com": "10.0.0.1",
    "meta.example.com": "169.254.169.254",
}


async def resolve(host: str, _: int) -> Sequence[str]:
    return [ADDRESSES[host]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    callbacks = {"default": HOST, "inside": "http://inside.example.com:8080/", "meta": "https://meta.example.com/"}
    return settings.model_copy(update={"scan_callbacks": callbacks, "scan_allowed_buckets": ("dossier", "imports")})


@pytest.fixture
def container(container: Container) -> Container:
    listed = ("https://host.example.com:443", "http://inside.example.com:8080", "https://meta.example.com:443")
    container.scans.egress.override(providers.Singleton(EgressClient, resolve, origins=listed))
    return container


def order(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ORDER, **changed}.items() if value is not ...}


def with_source(source: str) -> dict[str, Any]:
    return order(folders=[{"folder_id": "11", "source": source}])


async def stored() -> int:
    return int(await ScanRecord.get_pymongo_collection().count_documents({}))


async def test_an_order_is_accepted_and_can_be_followed(http: httpx.AsyncClient, container: Container) -> None:
    answer = await http.post("/scans", json=ORDER, headers=TOKEN)
    assert answer.status_code == 202, answer.text
    scan_id = answer.json()["scan_id"]
    assert answer.json() == {"scan_id": scan_id, "status": "PENDING", "status_url": f"/scans/{scan_id}"}
    assert (answer.headers["location"], answer.headers["retry-after"]) == (f"/scans/{scan_id}", "1")
    wake_ups: Any = container.wake_ups()
    assert ("scans.list", scan_id) in wake_ups.sent
    state = await http.get(answer.headers["location"], headers=TOKEN)
    assert state.json() == {
        "scan_id": scan_id, "status": "PENDING", "correlation_id": "sync-1", "folders_total": 1, "folders_done": 0,
        "failed_folders": [], "documents_found": 0, "batches_delivered": 0, "error": None,
        "created_at": state.json()["created_at"], "finished_at": None,
    }  # fmt: skip
    assert state.json()["created_at"].endswith("Z")
    same = await http.get(f"/v1/scans/{scan_id}", headers=TOKEN | {"If-None-Match": state.headers["etag"]})
    assert same.status_code == 304


@pytest.mark.parametrize(
    "callback",
    [
        {"callback": "default"},
        {"callback": "inside"},  # private, but the operator named it
        {"callback_url": HOST},
        {"callback_url": f"{HOST}/scans?tenant=1"},
        {"callback_url": "HTTPS://HOST.example.com.:443/dossier/callbacks/x"},
    ],
)
async def test_a_registered_callback_is_taken(http: httpx.AsyncClient, callback: dict[str, str]) -> None:
    answer = await http.post("/scans", json=order(**{"callback": ..., **callback}), headers=TOKEN)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    "callback",
    [
        {"callback": "other"},
        {"callback": "meta"},  # named by the operator, but it leads to a metadata service
        {"callback_url": "https://host.example.com/other"},
        {"callback_url": "https://host.example.com/dossier/callbacks-2"},
        {"callback_url": "https://host.example.com/dossier/callbacks/../admin"},
        {"callback_url": "https://host.example.com/dossier/callbacks/%2e%2e/admin"},
        {"callback_url": "https://host.example.com:8443/dossier/callbacks"},
        {"callback_url": "http://host.example.com/dossier/callbacks"},
        {"callback_url": "https://user@host.example.com/dossier/callbacks"},
        {"callback_url": "https://host.example.com\\@127.0.0.1/dossier/callbacks"},
        {"callback_url": "http://10.0.0.1:8080/"},
        {"callback_url": "http://127.0.0.1/"},
        {"callback_url": "http://169.254.169.254/latest/meta-data"},
        {"callback_url": "not a url"},
    ],
)
async def test_any_other_callback_is_refused(http: httpx.AsyncClient, callback: dict[str, str]) -> None:
    answer = await http.post("/scans", json=order(**{"callback": ..., **callback}), headers=TOKEN)
    problem(answer, 422, "callback_not_registered")
    assert await stored() == 0


@pytest.mark.parametrize(
    "source",
    [
        "s3://elsewhere/2026/", "s3://dossier/_dossier/", "s3://dossier/_dossier/originals/", "s3://dossier/2026",
        "s3://dossier/a/../_dossier/", "s3://dossier//", "s3://dossier/a\u0001b/", "https://dossier/2026/",
        "s3://dossier/" + "x" * 1100 + "/", "S3://dossier/2026/", "/etc/",
    ],
)  # fmt: skip
async def test_a_source_outside_is_refused(http: httpx.AsyncClient, source: str) -> None:
    problem(await http.post("/scans", json=with_source(source), headers=TOKEN), 422, "source_not_allowed")
    assert await stored() == 0


async def test_the_template_confines_each_person(http: httpx.AsyncClient, container: Container) -> None:
    container.sources().__dict__["_template"] = "s3://imports/{user_id}"
    for source, status in (
        ("s3://imports/7/", 202), ("s3://imports/7/2026/", 202), ("s3://imports/77/", 422), ("s3://imports/", 422),
        ("s3://dossier/7/", 422), ("s3://imports/8/7/", 422),
    ):  # fmt: skip
        assert (await http.post("/scans", json=with_source(source), headers=TOKEN)).status_code == status, source


@pytest.mark.parametrize("headers", [{}, {"Private-Token": "x"}, {"X-API-Key": PRIVATE_TOKEN}])
async def test_without_the_token_nothing_happens(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    code = "api_key_invalid" if "Private-Token" in headers else "api_key_missing"
    problem(await http.post("/scans", json=ORDER, headers=headers), 401, code)
    problem(await http.get("/scans/scn_1", headers=headers), 401, code)
    assert await stored() == 0


async def test_a_signature_may_be_left_out_but_not_be_wrong(http: httpx.AsyncClient) -> None:
    body, now, key = orjson.dumps(ORDER), int(time.time()), signing_key(SIGNING_SECRET)
    json = {"Content-Type": "application/json", **TOKEN}
    good = sign([key], "msg_1", now, body)
    assert (await http.post("/scans", content=body, headers=json | good)).status_code == 202
    for headers, sent, code in (
        (sign([key], "msg_1", now, body + b" "), body, "signature_invalid"),
        (sign([b"another key of 24 bytes!"], "msg_1", now, body), body, "signature_invalid"),
        (good, body.replace(b"sync-1", b"sync-2"), "signature_invalid"),
        ({"webhook-signature": good["webhook-signature"]}, body, "signature_invalid"),
        ({"webhook-signature": ""}, body, "signature_invalid"),
        (sign([key], "msg_1", now - 301, body), body, "signature_expired"),
    ):
        problem(await http.post("/scans", content=sent, headers=json | headers), 401, code)
    assert await stored() == 1


@pytest.mark.parametrize(
    "body",
    [
        order(type="scan.batch"),
        order(callback=...),
        order(callback_url=HOST),
        order(user_id="a/b"),
        order(user_id=""),
        order(user_id="ü"),
        order(user_id="x" * 65),
        order(folders=[]),
        order(folders=ORDER["folders"] * 2),  # type: ignore[operator]
        order(folders=[{"folder_id": "a b", "source": "s3://dossier/2026/"}]),
        order(correlation_id=7),
        order(correlation_id="a b"),
    ],
)
async def test_an_order_that_is_not_one_is_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    problem(await http.post("/scans", json=body, headers=TOKEN), 422, "validation_failed")
    assert await stored() == 0


async def test_the_same_key_is_the_same_scan(http: httpx.AsyncClient) -> None:
    headers = TOKEN | {"Idempotency-Key": "sync-1"}
    first = await http.post("/scans", json=ORDER, headers=headers)
    again = await http.post("/scans", json=ORDER, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    problem(await http.post("/scans", json=order(user_id="8"), headers=headers), 422, "idempotency_mismatch")
    assert await stored() == 1


@pytest.mark.parametrize("scan_id", ["scn_00000000000000000000000000", "x", "%00$ne"])
async def test_a_scan_that_is_not_there_is_not_found(http: httpx.AsyncClient, scan_id: str) -> None:
    problem(await http.get(f"/scans/{scan_id}", headers=TOKEN), 404, "not_found")


@pytest.mark.parametrize("name", ["private_tokens", "scan_signing_secret"])
def test_without_its_secrets_it_does_not_start(settings: Settings, name: str) -> None:
    with pytest.raises(ConfigError, match=name.upper()):
        build_container(settings.model_copy(update={name: None, "app_modules": ("scans",)}), "api")


@pytest.mark.parametrize("url", ["https://host.example.com/a/../b", "https://us\\er@host.example", "ftp://a/", "a"])
def test_a_callback_that_is_no_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="SCAN_CALLBACKS"):
        load_settings("local", scan_callbacks={"default": url})
