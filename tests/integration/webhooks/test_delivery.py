"""From a change to a customer's server, with a real worker: at least once, signed, and nobody waits for another."""

import asyncio
import json
import time
from itertools import pairwise

import psutil
import pytest

from tests.clients import Person
from tests.corpus import pdfs
from tests.integration.webhooks.conftest import EVENT_S, Shop
from tests.integration.webhooks.receiver import GARBAGE, Behaviour, says

pytestmark = pytest.mark.timeout(300)

LEASE_S, ATTEMPT_S = 30, 15


async def test_an_uploaded_document_is_told_to_its_owner_and_to_nobody_else(
    shop: Shop, ada: Person, bob: Person
) -> None:
    receiver = shop.receiver
    mine = await shop.hook(ada, receiver.behaves("/adas", says(204)), "document.uploaded", "document.deleted")
    await shop.hook(ada, receiver.behaves("/adas-others", says(200)), "document.failed")
    theirs = await shop.hook(bob, receiver.behaves("/bobs", says(200)))
    document = await ada.uploaded(pdfs.pdf(["private"]))
    (delivery,) = await shop.ended(ada, mine, "DELIVERED")
    (seen,) = receiver.seen("/adas")
    assert seen.is_signed_with(mine["secret"])
    assert not seen.is_signed_with(theirs["secret"])
    assert seen["content-type"] == "application/json"
    assert seen["webhook-id"] == delivery["event_id"] == f"evt_{document['document_id']}_1"
    told = json.loads(seen.body)
    assert set(told) == {"type", "timestamp", "data"}
    assert told["type"] == "document.uploaded"
    state = {"status": "UPLOADED", "attempt": 0, "error": None}
    assert told["data"] == {"document_id": document["document_id"], **state}
    assert b"private" not in seen.body
    assert [(attempt["status_code"], attempt["error"]) for attempt in delivery["attempts"]] == [(204, None)]
    await ada.call("DELETE", f"/documents/{document['document_id']}")
    await shop.until(lambda: len(receiver.seen("/adas")) == 2, EVENT_S, "the deletion is told")
    assert (receiver.seen("/bobs"), receiver.seen("/adas-others")) == ([], [])
    assert await shop.deliveries(bob, theirs) == []


async def test_a_service_is_told_of_products_thinly(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(shop.service, shop.receiver.behaves("/products", says(200)), "product.created")
    product = {
        "sku": "LAMP-1",
        "name": "Lamp",
        "description": "shines",
        "price": {"amount": "12.50", "currency": "EUR"},
    }
    made = await shop.service.post("/products", json=product)
    assert made.status_code == 201, made.text
    await shop.ended(shop.service, hook, "DELIVERED")
    (seen,) = shop.receiver.seen("/products")
    assert seen.is_signed_with(hook["secret"])
    told = {"product_id": made.json()["product_id"], "sku": "LAMP-1", "status": "active", "version": 1}
    assert json.loads(seen.body)["data"] == told


async def test_a_failed_attempt_is_repeated_after_a_pause_with_the_same_id_and_a_new_signature(
    shop: Shop, ada: Person
) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves("/twice", says(500), says(503), says(200)))
    await shop.tested(ada, hook)
    (delivery,) = await shop.ended(ada, hook, "DELIVERED")
    seen = shop.receiver.seen("/twice")
    assert [attempt["status_code"] for attempt in delivery["attempts"]] == [500, 503, 200]
    assert [attempt["error"] for attempt in delivery["attempts"]] == ["http_status", "http_status", None]
    assert all(request.is_signed_with(hook["secret"]) for request in seen)
    assert {(request["webhook-id"], request.body) for request in seen} == {(delivery["event_id"], seen[0].body)}
    assert len({request["webhook-timestamp"] for request in seen}) > 1
    assert len({request["webhook-signature"] for request in seen}) > 1
    assert all(later.at - earlier.at >= 0.8 for earlier, later in pairwise(seen))


async def test_a_repeat_comes_in_time_without_the_periodic_task(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves("/soon", says(500), says(200)))
    beat = psutil.Process(shop.crew.processes[0].pid)
    beat.suspend()
    try:
        await shop.tested(ada, hook)
        await shop.ended(ada, hook, "DELIVERED")
    finally:
        beat.resume()
    first, again = shop.receiver.seen("/soon")
    assert 0.8 <= again.at - first.at < 4  # 1 s ± 20 %, to the next second, on a busy machine


@pytest.mark.parametrize(
    ("path", "behaviour", "status", "error"),
    [
        ("/redirect", says(302, "Location: /trap"), 302, "redirect"),
        ("/garbage", GARBAGE, None, "connect"),
        ("/closed", b"", None, "connect"),
        ("/error", says(500), 500, "http_status"),
    ],
)
async def test_a_receiver_that_never_succeeds_is_given_up_when_the_schedule_is_over(
    shop: Shop, ada: Person, path: str, behaviour: Behaviour, status: int | None, error: str
) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves(path, behaviour))
    await shop.tested(ada, hook)
    (delivery,) = await shop.ended(ada, hook, "EXHAUSTED", 30)
    assert [(attempt["status_code"], attempt["error"]) for attempt in delivery["attempts"]] == [(status, error)] * 4
    assert delivery["next_attempt_at"] is None
    assert len(shop.receiver.seen(path)) == 4
    assert shop.receiver.seen("/trap") == []


async def test_what_a_receiver_missed_while_it_was_down_is_recovered(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(ada, f"{shop.dead}/down")
    for _ in range(2):
        await shop.tested(ada, hook)
    gone = await shop.ended(ada, hook, "EXHAUSTED", 40)
    assert {attempt["error"] for delivery in gone for attempt in delivery["attempts"]} == {"connect"}
    path = f"/webhooks/{hook['webhook_id']}"
    assert (await ada.get(path)).json()["status"] == "degraded"
    await ada.call("PATCH", path, json={"url": shop.receiver.behaves("/up", says(200))})
    answer = await ada.post(f"{path}/recover", json={"since": "2026-01-31T10:00:00Z"})
    assert (answer.status_code, answer.json()) == (202, {"deliveries": 2})
    await shop.ended(ada, hook, "DELIVERED")
    assert {seen["webhook-id"] for seen in shop.receiver.seen("/up")} == {delivery["event_id"] for delivery in gone}
    assert (await ada.get(path)).json()["status"] == "active"


async def test_a_receiver_says_when_it_wants_to_be_called_again(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves("/later", says(429, "Retry-After: 4"), says(200)))
    await shop.tested(ada, hook)
    await shop.ended(ada, hook, "DELIVERED", 30)
    first, second = shop.receiver.seen("/later")
    assert second.at - first.at >= 4


async def test_a_receiver_that_is_gone_disables_its_webhook(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves("/gone", says(410), says(200)))
    await shop.tested(ada, hook)
    await shop.ended(ada, hook, "EXHAUSTED")
    path = f"/webhooks/{hook['webhook_id']}"
    assert (await ada.get(path)).json()["status"] == "disabled"
    beside = await shop.hook(ada, shop.receiver.behaves("/beside", says(200)))
    await ada.uploaded(pdfs.pdf(["x"]))
    await shop.ended(ada, beside, "DELIVERED")  # so the event has passed by the one that is disabled
    assert (await ada.call("PATCH", path, json={"status": "active"})).json()["status"] == "active"
    (delivery,) = await shop.deliveries(ada, hook)
    await ada.post(f"/webhooks/deliveries/{delivery['delivery_id']}/redeliver")
    await shop.ended(ada, hook, "DELIVERED")
    first, second = shop.receiver.seen("/gone")
    assert first["webhook-id"] == second["webhook-id"]


async def test_after_a_rotation_both_secrets_verify(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves("/rotated", says(200)))
    newer = (await ada.post(f"/webhooks/{hook['webhook_id']}/rotate-secret")).json()["secret"]
    await shop.tested(ada, hook)
    await shop.ended(ada, hook, "DELIVERED")
    (seen,) = shop.receiver.seen("/rotated")
    assert seen.is_signed_with(newer)
    assert seen.is_signed_with(hook["secret"])
    assert not seen.is_signed_with("whsec_" + "A" * 43 + "=")


async def test_a_slow_receiver_is_called_by_four_at_a_time(shop: Shop, ada: Person) -> None:
    hook = await shop.hook(ada, shop.receiver.behaves("/slow", 0.5))
    for _ in range(12):
        await shop.tested(ada, hook)
    await shop.ended(ada, hook, "DELIVERED", 30)
    assert shop.receiver.most["/slow"] <= 4
    assert len(shop.receiver.seen("/slow")) == 12


async def test_of_fifty_subscribers_one_that_hangs_makes_no_other_late(shop: Shop, ada: Person) -> None:
    release = asyncio.Event()
    hanging = await shop.hook(ada, shop.receiver.behaves("/hangs", release))
    others = [f"/quick{number}" for number in range(49)]
    for path in others:
        await shop.hook(ada, shop.receiver.behaves(path, says(200)))
    await ada.uploaded(pdfs.pdf(["x"]))
    await shop.until(lambda: shop.receiver.seen("/hangs"), EVENT_S, "the one that hangs is called")
    began = shop.receiver.seen("/hangs")[0].at

    def all_told() -> bool:
        return all(shop.receiver.seen(path) for path in others)

    await shop.until(all_told, 10, "the others are told")
    assert max(shop.receiver.seen(path)[0].at for path in others) - began < 10
    (delivery,) = await shop.deliveries(ada, hanging)
    assert delivery["attempts"] == []  # still within its 15 s

    async def has_failed() -> bool:
        return bool((await shop.deliveries(ada, hanging))[0]["attempts"])

    await shop.until(has_failed, ATTEMPT_S + 10, "the attempt is over")
    release.set()
    (delivery,) = await shop.ended(ada, hanging, "DELIVERED")
    assert delivery["attempts"][0]["error"] == "timeout"
    assert 14_000 < delivery["attempts"][0]["duration_ms"] < 17_000


@pytest.mark.slow
async def test_what_a_killed_worker_was_sending_is_sent_by_another_and_closed_once(shop: Shop, ada: Person) -> None:
    release = asyncio.Event()
    hook = await shop.hook(ada, shop.receiver.behaves("/killed", release, says(200)))
    await shop.tested(ada, hook)
    await shop.until(lambda: shop.receiver.seen("/killed"), EVENT_S, "the worker is sending")
    (worker,) = (process for process in shop.crew.processes[1:] if process.is_running())
    worker.kill()
    killed = time.time()
    shop.crew.worker()
    (delivery,) = await shop.ended(ada, hook, "DELIVERED", LEASE_S + EVENT_S)
    release.set()
    first, second = shop.receiver.seen("/killed")
    assert first["webhook-id"] == second["webhook-id"]
    assert second.at - killed > LEASE_S - 5, "nobody takes what another holds"
    assert [attempt["status_code"] for attempt in delivery["attempts"]] == [200]
