"""Webhooks over HTTP: what may be registered, by whom, and what is shown of it."""

import re
from typing import Any

import httpx
import pytest
from dependency_injector import providers

from app.container import Container
from app.webhooks.adapter.mongo import WebhookRecord
from app.webhooks.adapter.mongo_deliveries import WebhookDeliveryRecord
from app.webhooks.adapter.outbound import SignedPosts
from app.webhooks.domain.webhook import MOST_OF_ONE_OWNER
from core.security.egress import EgressClient
from core.security.signing import signing_key
from tests.clients import Person, Service, problem
from tests.idempotency_twin import IdempotencyKeysTwin

URL = "https://hooks.example.com/in?a=1"
WANTED = {"url": URL, "events": ["document.completed", "document.failed"]}
KEY = {"Idempotency-Key": "0b1f6e1e-6f1e-4a5d-9d3a-1d2c3b4a5f60"}
READ = {"webhook_id", "url", "events", "status", "created_at"}


@pytest.fixture
async def hook(ada: Person) -> dict[str, Any]:
    made: dict[str, Any] = (await ada.post("/webhooks", json=WANTED)).json()
    return made


async def delivered(person: Person | Service, hook: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await person.get(f"/webhooks/{hook['webhook_id']}/deliveries{query}")).json()[
        "items"
    ]
    return items


def wake_ups(container: Container) -> int:
    sent: Any = container.wake_ups()
    return int(sent.sent.count(("webhooks.deliver",)))


async def exhausted(delivery_id: str) -> None:
    """As if all attempts had failed."""
    rows = WebhookDeliveryRecord.get_pymongo_collection()
    await rows.update_one({"_id": delivery_id}, {"$set": {"status": "EXHAUSTED", "next_attempt_at": None, "tries": 10}})


# A webhook


async def test_a_webhook_is_made_and_its_secret_shown_once(ada: Person) -> None:
    made = await ada.post("/webhooks", json=WANTED)
    assert made.status_code == 201
    body = made.json()
    assert set(body) == READ | {"secret"}
    assert (body["url"], body["events"], body["status"]) == (URL, WANTED["events"], "active")
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", body["secret"])
    assert len(signing_key(body["secret"])) == 32
    assert made.headers["location"] == f"/webhooks/{body['webhook_id']}"
    assert made.headers["cache-control"] == "no-store"
    one = await ada.get(made.headers["location"])
    assert (one.json(), one.headers["etag"]) == ({name: body[name] for name in READ}, made.headers["etag"])
    assert (await ada.get("/webhooks")).json()["items"] == [one.json()]
    stored = await WebhookRecord.get_pymongo_collection().find_one({})
    assert body["secret"] not in str(stored)
    assert body["secret"].removeprefix("whsec_") not in str(stored)


async def test_webhooks_are_listed_newest_first_by_pages(ada: Person) -> None:
    ids = [(await ada.post("/webhooks", json=WANTED)).json()["webhook_id"] for _ in range(3)]
    page = (await ada.get("/webhooks?limit=2")).json()
    rest = (await ada.get("/webhooks", params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert [item["webhook_id"] for item in page["items"] + rest["items"]] == ids[::-1]


@pytest.mark.parametrize(
    "body",
    [
        {"url": URL}, {"events": ["document.failed"]}, {"url": URL, "events": []}, {"url": None, "events": None},
        {"url": URL, "events": ["document.failed", "document.failed"]}, {"url": URL, "events": "document.failed"},
        {"url": URL, "events": [7]}, {**WANTED, "secret": "mine"}, {**WANTED, "status": "active"},
        {"url": URL, "events": ["document.failed"] * 21},
    ],
)  # fmt: skip
async def test_a_request_that_does_not_fit_is_refused(ada: Person, body: dict[str, Any]) -> None:
    problem(await ada.post("/webhooks", json=body), 422, "validation_failed")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/", "https://hooks.example.com:444/", "https://127.0.0.1/", "https://localhost/",
        "https://0x7f.1/", "https://[::1]/", "https://a@hooks.example.com/", "https://hooks.example.com/#f",
        "https://hooks.example.com\\@127.0.0.1/", "ftp://hooks.example.com/", "", " ", "x" * 3000, "https://svc.internal/",
        "https://hooks.example.com/\r\nX: y", "javascript:alert(1)", "https://hooks.exämple.com/",
    ],
)  # fmt: skip
async def test_a_url_that_may_lead_inside_is_refused_and_not_repeated(
    ada: Person, hook: dict[str, Any], url: str
) -> None:
    for answer in (
        await ada.post("/webhooks", json={**WANTED, "url": url}),
        await ada.call("PATCH", f"/webhooks/{hook['webhook_id']}", json={"url": url}),
    ):
        refusal = problem(answer, 422, "url_not_allowed")
        assert refusal["errors"][0]["pointer"] == "/url"
        assert len(url) < 2 or url not in answer.text
    assert (await ada.get(f"/webhooks/{hook['webhook_id']}")).json()["url"] == URL


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"])
async def test_a_name_that_leads_inside_is_refused(container: Container, ada: Person, address: str) -> None:
    async def inside(host: str, port: int) -> list[str]:
        return ["93.184.215.14", address]

    outbound = SignedPosts(EgressClient(inside), container.webhooks.box(), container.clock())
    container.webhooks.outbound.override(providers.Object(outbound))
    problem(await ada.post("/webhooks", json=WANTED), 422, "url_not_allowed")


async def test_an_owner_has_a_hundred_webhooks_at_most(ada: Person, bob: Person) -> None:
    rows = WebhookRecord.get_pymongo_collection()
    await ada.post("/webhooks", json=WANTED)
    row = await rows.find_one({})
    assert row is not None
    await rows.insert_many([{**row, "_id": f"whk_{number}"} for number in range(MOST_OF_ONE_OWNER - 1)])
    refusal = problem(await ada.post("/webhooks", json=WANTED), 422, "validation_failed")
    assert refusal["errors"][0]["code"] == "too_many_webhooks"
    assert (await bob.post("/webhooks", json=WANTED)).status_code == 201


# Who may ask for what


async def test_services_are_told_of_products_and_stock_and_people_of_documents_and_scans(
    ada: Person, shop: Service
) -> None:
    people = ["document.uploaded", "document.processing", "document.completed", "document.failed", "document.deleted",
              "scan.completed", "scan.failed"]  # fmt: skip
    services = ["product.created", "product.updated", "product.archived", "stock.changed", "stock.low"]
    assert (await ada.post("/webhooks", json={"url": URL, "events": people})).status_code == 201
    assert (await shop.post("/webhooks", json={"url": URL, "events": services})).status_code == 201
    for caller, others in ((ada, services), (shop, people)):
        for name in [*others, "webhook.test", "document.exploded"]:
            problem(await caller.post("/webhooks", json={"url": URL, "events": [name]}), 422, "event_not_allowed")
        made = (await caller.get("/webhooks")).json()["items"]
        answer = await caller.call("PATCH", f"/webhooks/{made[0]['webhook_id']}", json={"events": [others[0]]})
        assert problem(answer, 422, "event_not_allowed")["errors"][0]["pointer"] == "/events/0"


async def test_a_person_and_a_service_do_not_see_each_others(ada: Person, shop: Service, hook: dict[str, Any]) -> None:
    mine = (await shop.post("/webhooks", json={"url": URL, "events": ["stock.low"]})).json()
    assert [item["webhook_id"] for item in (await shop.get("/webhooks")).json()["items"]] == [mine["webhook_id"]]
    for caller, other in ((ada, mine), (shop, hook)):
        path = f"/webhooks/{other['webhook_id']}"
        for method, tail, options in (
            ("GET", "", {}), ("PATCH", "", {"json": {"status": "disabled"}}), ("DELETE", "", {}), ("POST", "/test", {}),
            ("POST", "/rotate-secret", {}), ("GET", "/deliveries", {}),
            ("POST", "/recover", {"json": {"since": "2026-01-31T10:00:00Z"}}),
        ):  # fmt: skip
            problem(await caller.call(method, path + tail, **options), 404, "not_found")
    assert (await ada.get(f"/webhooks/{hook['webhook_id']}")).json()["status"] == "active"


async def test_one_credential_is_asked_for(http: httpx.AsyncClient, ada: Person, shop: Service) -> None:
    problem(await http.get("/webhooks"), 401, "token_missing")
    problem(await http.get("/webhooks", headers={"X-API-Key": "wrong"}), 401, "api_key_invalid")
    problem(await ada.get("/webhooks", headers={"X-API-Key": shop.key}), 400, "malformed_request")


# Changes


async def test_a_change_keeps_what_it_does_not_name(ada: Person, hook: dict[str, Any]) -> None:
    path = f"/webhooks/{hook['webhook_id']}"
    first = await ada.get(path)
    changed = await ada.call(
        "PATCH", path, json={"events": ["scan.failed"]}, headers={"If-Match": first.headers["etag"]}
    )
    assert (changed.status_code, changed.json()) == (200, first.json() | {"events": ["scan.failed"]})
    stale = {"If-Match": first.headers["etag"]}
    problem(await ada.call("PATCH", path, json={"status": "disabled"}, headers=stale), 412, "precondition_failed")
    current = {"If-None-Match": changed.headers["etag"]}
    assert (await ada.get(path, headers=current)).status_code == 304
    assert (await ada.get(path, headers={"If-None-Match": first.headers["etag"]})).status_code == 200
    problem(await ada.call("DELETE", path, headers=stale), 412, "precondition_failed")
    current = {"If-Match": changed.headers["etag"]}
    assert (await ada.call("DELETE", path, headers=current)).status_code == 204


@pytest.mark.parametrize(
    "body",
    [{"status": "degraded"}, {"status": None}, {"url": None}, {"events": None}, {"events": []}, {"secret": "x"}, []],
)
async def test_a_change_that_does_not_fit_is_refused(ada: Person, hook: dict[str, Any], body: Any) -> None:
    problem(await ada.call("PATCH", f"/webhooks/{hook['webhook_id']}", json=body), 422, "validation_failed")


async def test_a_disabled_webhook_gets_nothing_until_it_is_active_again(ada: Person, hook: dict[str, Any]) -> None:
    path = f"/webhooks/{hook['webhook_id']}"
    waiting = (await ada.post(f"{path}/test")).json()
    assert (await ada.call("PATCH", path, json={"status": "disabled"})).json()["status"] == "disabled"
    (row,) = await delivered(ada, hook)
    assert (row["delivery_id"], row["status"], row["next_attempt_at"]) == (waiting["delivery_id"], "EXHAUSTED", None)
    again = f"/webhooks/deliveries/{waiting['delivery_id']}/redeliver"
    for call, body in ((f"{path}/test", None), (again, None), (f"{path}/recover", {"since": "2026-01-31T10:00:00Z"})):
        refusal = problem(await ada.post(call, json=body), 422, "validation_failed")
        assert refusal["errors"][0]["code"] == "webhook_disabled"
    rows = WebhookRecord.get_pymongo_collection()
    await rows.update_one({}, {"$set": {"failures": 9}})
    assert (await ada.call("PATCH", path, json={"status": "active"})).json()["status"] == "active"
    stored = await rows.find_one({})
    assert stored is not None
    assert stored["failures"] == 0
    assert (await ada.post(again)).json()["status"] == "PENDING"


async def test_a_deleted_webhook_is_gone_with_what_waits(ada: Person, hook: dict[str, Any]) -> None:
    path = f"/webhooks/{hook['webhook_id']}"
    delivery_id = (await ada.post(f"{path}/test")).json()["delivery_id"]
    assert (await ada.call("DELETE", path)).status_code == 204
    problem(await ada.call("DELETE", path), 404, "not_found")
    problem(await ada.get(f"{path}/deliveries"), 404, "not_found")
    problem(await ada.post(f"/webhooks/deliveries/{delivery_id}/redeliver"), 404, "not_found")
    row = await WebhookDeliveryRecord.get_pymongo_collection().find_one({})
    assert row is not None
    assert row["status"] == "EXHAUSTED"


# Deliveries


async def test_a_test_makes_a_delivery_and_wakes_the_sender(
    container: Container, ada: Person, hook: dict[str, Any]
) -> None:
    path = f"/webhooks/{hook['webhook_id']}"
    answer = await ada.post(f"{path}/test")
    assert answer.status_code == 202
    assert (answer.headers["location"], answer.headers["retry-after"]) == (f"{path}/deliveries", "1")
    (row,) = await delivered(ada, hook)
    assert row == answer.json()
    assert set(row) == {"delivery_id", "event_id", "event_type", "status", "attempts", "next_attempt_at"}
    assert (row["event_type"], row["status"], row["attempts"]) == ("webhook.test", "PENDING", [])
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", row["event_id"])
    assert wake_ups(container) == 1


async def test_deliveries_are_listed_newest_first_by_status_and_pages(ada: Person, hook: dict[str, Any]) -> None:
    ids = [(await ada.post(f"/webhooks/{hook['webhook_id']}/test")).json()["delivery_id"] for _ in range(3)]
    await exhausted(ids[1])
    path = f"/webhooks/{hook['webhook_id']}/deliveries"
    page = (await ada.get(f"{path}?limit=2")).json()
    rest = (await ada.get(path, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert sorted(item["delivery_id"] for item in page["items"] + rest["items"]) == sorted(ids)
    assert [row["delivery_id"] for row in await delivered(ada, hook, "?status=EXHAUSTED")] == [ids[1]]
    assert len(await delivered(ada, hook, "?status=PENDING")) == 2
    problem(await ada.get(f"{path}?status=LOST"), 422, "validation_failed")
    other = {"status": "PENDING", "cursor": page["next_cursor"]}
    problem(await ada.get(path, params=other), 400, "cursor_invalid")


async def test_what_failed_is_sent_again_on_request(
    container: Container, ada: Person, bob: Person, hook: dict[str, Any]
) -> None:
    first = (await ada.post(f"/webhooks/{hook['webhook_id']}/test")).json()
    await exhausted(first["delivery_id"])
    path = f"/webhooks/deliveries/{first['delivery_id']}/redeliver"
    problem(await bob.post(path), 404, "not_found")
    assert (await delivered(ada, hook))[0]["status"] == "EXHAUSTED"
    answer = await ada.post(path)
    assert (answer.status_code, answer.json()["status"], answer.json()["event_id"]) == (
        202,
        "PENDING",
        first["event_id"],
    )
    assert answer.json()["next_attempt_at"] is not None
    assert wake_ups(container) == 2


async def test_all_that_failed_is_recovered_at_once(ada: Person, hook: dict[str, Any]) -> None:
    path = f"/webhooks/{hook['webhook_id']}"
    for _ in range(3):
        await exhausted((await ada.post(f"{path}/test")).json()["delivery_id"])
    await ada.post(f"{path}/test")
    later = await ada.post(f"{path}/recover", json={"since": "2999-01-01T00:00:00Z"})
    assert (later.status_code, later.json()) == (202, {"deliveries": 0})
    answer = await ada.post(f"{path}/recover", json={"since": "2026-01-31T10:00:00+01:00"})
    assert answer.json() == {"deliveries": 3}
    assert {row["status"] for row in await delivered(ada, hook)} == {"PENDING"}


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-31t10:00:00.5z"])
async def test_any_moment_will_do(ada: Person, hook: dict[str, Any], since: str) -> None:
    answer = await ada.post(f"/webhooks/{hook['webhook_id']}/recover", json={"since": since})
    assert answer.json() == {"deliveries": 0}


@pytest.mark.parametrize(
    "since",
    [
        None, 1_700_000_000, "1700000000", "2026-01-31", "2026-01-31T10:00:00", "2026-13-31T10:00:00Z", "yesterday", "",
        "2026-01-31T25:00:00Z", "٢٠٢٦-01-31T10:00:00Z", ["2026-01-31T10:00:00Z"], True, "2026-01-31T10:00:00Z ",
    ],
)  # fmt: skip
async def test_what_is_no_moment_is_refused(ada: Person, hook: dict[str, Any], since: Any) -> None:
    answer = await ada.post(f"/webhooks/{hook['webhook_id']}/recover", json={"since": since})
    problem(answer, 422, "validation_failed")


# Secrets and repeats


async def test_a_rotated_secret_is_another_one_and_the_old_one_stays_for_a_while(
    ada: Person, hook: dict[str, Any]
) -> None:
    answer = await ada.post(f"/webhooks/{hook['webhook_id']}/rotate-secret")
    assert (answer.status_code, set(answer.json())) == (200, {"secret"})
    assert answer.json()["secret"] != hook["secret"]
    row = await WebhookRecord.get_pymongo_collection().find_one({})
    assert row is not None
    assert [secret["ends_at"] is None for secret in row["secrets"]] == [True, False]


async def test_a_repeat_gets_the_secret_again_which_lies_nowhere_in_clear(container: Container, ada: Person) -> None:
    first = await ada.post("/webhooks", json=WANTED, headers=KEY)
    again = await ada.post("/webhooks", json=WANTED, headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert len((await ada.get("/webhooks")).json()["items"]) == 1
    twin: IdempotencyKeysTwin = container.webhooks.idempotency_keys()
    assert len(twin.rows) == 1
    assert first.json()["secret"] not in repr(twin.rows)
    assert "whsec_" not in repr(twin.rows)


async def test_a_repeat_after_a_lost_answer_finds_the_same_secret(
    container: Container, ada: Person, hook: dict[str, Any]
) -> None:
    """The first run died after its effect: its row has no answer, and its lease is over."""
    twin: IdempotencyKeysTwin = container.webhooks.idempotency_keys()
    for path, body in (
        ("/webhooks", WANTED), (f"/webhooks/{hook['webhook_id']}/rotate-secret", None),
        (f"/webhooks/{hook['webhook_id']}/test", None),
    ):  # fmt: skip
        first = await ada.post(path, json=body, headers=KEY)
        twin.rows = {
            key: row.model_copy(update={"response": None, "locked_until": row.expires_at.replace(year=2000)})
            for key, row in twin.rows.items()
        }
        again = await ada.post(path, json=body, headers=KEY)
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert "idempotency-replayed" not in again.headers
    assert len((await ada.get("/webhooks")).json()["items"]) == 2
    assert len(await delivered(ada, hook)) == 1
    row = await WebhookRecord.get_pymongo_collection().find_one({"_id": hook["webhook_id"]})
    assert row is not None
    assert len(row["secrets"]) == 2
