"""Reservations over HTTP, and what a repeated command gets."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.inventory.adapter.mongo import ReservationRecord, StockKeyRecord
from core.clock import utc_now
from core.ids import new_id
from core.mongo import NOW
from tests.clients import problem
from tests.integration.inventory.conftest import Shop, command


async def over(reservation_id: str) -> None:
    """Its time has passed."""
    past = utc_now() - timedelta(seconds=1)
    rows = ReservationRecord.get_pymongo_collection()
    await rows.update_one({"_id": reservation_id}, {"$set": {"expires_at": past}})


async def test_a_reservation_holds_stock_until_it_is_committed_or_released(shop: Shop) -> None:
    product, other = await shop.product(10), await shop.product(5)
    answer = await shop.post(
        "/inventory/reservations",
        json={
            "lines": [{"product_id": product, "quantity": 3}, {"product_id": other, "quantity": 5}],
            "reference": "7",
        },
    )
    made = answer.json()
    assert (answer.status_code, made["status"], made["reference"]) == (201, "active", "7")
    assert made["lines"] == [{"product_id": product, "quantity": 3}, {"product_id": other, "quantity": 5}]
    assert answer.headers["location"] == f"/inventory/reservations/{made['reservation_id']}"
    assert await shop.counts(product) == (10, 3, 7)
    assert (await shop.end(made["reservation_id"], "commit"))["status"] == "committed"
    assert await shop.counts(product) == (7, 0, 7)
    assert await shop.counts(other) == (0, 0, 0)
    given = await shop.reserve({product: 7})
    released = await shop.end(given["reservation_id"], "release")
    assert (released["status"], released["closed_at"] is not None) == ("released", True)
    assert await shop.counts(product) == (7, 0, 7)


async def test_it_lasts_a_quarter_of_an_hour_unless_said_otherwise(shop: Shop) -> None:
    product = await shop.product(10)
    wanted: list[tuple[dict[str, Any], int]] = [({}, 900), ({"ttl_seconds": 1}, 1), ({"ttl_seconds": 86_400}, 86_400)]
    for more, seconds in wanted:
        made = await shop.reserve({product: 1}, **more)
        stored = await ReservationRecord.get_pymongo_collection().find_one({"_id": made["reservation_id"]})
        assert stored is not None
        assert stored["expires_at"] - stored["created_at"] == timedelta(seconds=seconds)


async def test_all_lines_or_none(shop: Shop) -> None:
    plenty, scarce = await shop.product(10), await shop.product(1)
    assert await shop.reserve({plenty: 5, scarce: 2}) == "insufficient_stock"
    assert await shop.reserve({plenty: 5, "prd_unknown": 1}) == "product_not_found"
    assert await shop.counts(plenty) == (10, 0, 10)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"lines": []}, "/lines"),
        ({"lines": [{"product_id": f"prd_{n}", "quantity": 1} for n in range(101)]}, "/lines"),
        ({"lines": [{"product_id": "prd_1", "quantity": 1}, {"product_id": "prd_1", "quantity": 2}]},
         "/lines/1/product_id"),
        ({"lines": [{"product_id": "prd_1", "quantity": 0}]}, "/lines/0/quantity"),
        ({"lines": [{"product_id": "prd_1", "quantity": 1}], "ttl_seconds": 0}, "/ttl_seconds"),
        ({"lines": [{"product_id": "prd_1", "quantity": 1}], "ttl_seconds": 86_401}, "/ttl_seconds"),
    ],
)  # fmt: skip
async def test_a_reservation_that_means_nothing_is_refused(shop: Shop, body: dict[str, Any], pointer: str) -> None:
    refused = problem(await shop.post("/inventory/reservations", json=body), 422, "validation_failed")
    assert refused["errors"][0]["pointer"] == pointer


async def test_a_hundred_lines_are_reserved_and_committed(shop: Shop) -> None:
    products = [await shop.product(2) for _ in range(100)]
    made = await shop.reserve(dict.fromkeys(products, 1))
    assert len((await shop.end(made["reservation_id"], "commit"))["lines"]) == 100
    assert {await shop.counts(product) for product in products[::33]} == {(1, 0, 1)}


async def test_what_is_closed_stays_closed(shop: Shop) -> None:
    product = await shop.product(10)
    made = await shop.reserve({product: 1})
    await shop.end(made["reservation_id"], "commit")
    for how in ("commit", "release"):
        assert await shop.end(made["reservation_id"], how) == "reservation_closed"
    assert await shop.counts(product) == (9, 0, 9)
    problem(await shop.get("/inventory/reservations/rsv_none"), 404, "not_found")
    assert await shop.end("rsv_none", "commit") == "not_found"


async def test_an_overdue_reservation_cannot_be_committed_and_gives_back_what_it_held(shop: Shop) -> None:
    product = await shop.product(10)
    made = await shop.reserve({product: 4})
    await over(made["reservation_id"])
    assert await shop.end(made["reservation_id"], "commit") == "reservation_closed"
    found = (await shop.get(f"/inventory/reservations/{made['reservation_id']}")).json()
    assert found["status"] == "expired"
    assert await shop.counts(product) == (10, 0, 10)


async def test_what_is_overdue_is_given_back_when_somebody_looks_or_needs_it(shop: Shop) -> None:
    looked_at, stock_read, needed, swept = [await shop.product(3) for _ in range(4)]
    made = {
        product: (await shop.reserve({product: 3}))["reservation_id"]
        for product in (looked_at, stock_read, needed, swept)
    }
    for reservation_id in made.values():
        await over(reservation_id)
    assert (await shop.get(f"/inventory/reservations/{made[looked_at]}")).json()["status"] == "expired"
    assert await shop.counts(stock_read) == (3, 0, 3)
    assert (await shop.reserve({needed: 3}))["status"] == "active"
    await shop.container.inventory.reservations().expire_due()
    assert [row["kind"] for row in await shop.movements(swept)] == ["receive", "reserve", "expire"]
    assert await shop.wrong() == []


async def test_a_command_with_a_key_is_done_once_and_answered_alike(shop: Shop) -> None:
    product = await shop.product(10)
    body = {"kind": "issue", "quantity": 6}
    headers = {"Idempotency-Key": new_id("key")}
    path = f"/inventory/{product}/movements"
    first = await shop.post(path, json=body, headers=headers)
    again = await shop.post(path, json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    problem(await shop.post(path, json={**body, "quantity": 5}, headers=headers), 422, "idempotency_mismatch")
    assert await shop.counts(product) == (4, 0, 4)


async def test_a_refused_command_leaves_its_key_free(shop: Shop) -> None:
    product, key = await shop.product(), new_id("key")
    assert await shop.move(product, "issue", 6, key) == "insufficient_stock"
    assert (await shop.move(product, "receive", 6, key))["seq"] == 1


async def left_behind() -> None:
    """All commands look as if their process had died before the answer was kept."""
    rows = StockKeyRecord.get_pymongo_collection()
    await rows.update_many({}, [{"$set": {"response": None, "locked_until": NOW}}])


async def test_a_command_that_is_taken_over_finds_its_own_effect_before_any_guard(shop: Shop) -> None:
    product = await shop.product(5)
    moving, reserving, committing = (new_id("key") for _ in range(3))
    issued = await shop.move(product, "issue", 3, moving)
    reserved = await shop.reserve({product: 2}, reserving)
    path = f"/inventory/reservations/{reserved['reservation_id']}/commit"
    committed = await shop.post(path, headers={"Idempotency-Key": committing})
    assert (await shop.call("DELETE", f"/products/{product}")).status_code == 204
    await left_behind()
    assert await shop.move(product, "issue", 3, moving) == issued  # there is nothing left to issue
    again = await shop.reserve({product: 2}, reserving)  # and an archived product is not reserved
    assert (again["reservation_id"], again["status"]) == (reserved["reservation_id"], "committed")
    repeated = await shop.post(path, headers={"Idempotency-Key": committing})
    assert (repeated.status_code, repeated.json()) == (200, committed.json())
    assert len(await shop.movements(product)) == 4


async def test_two_runs_of_one_command_at_once_have_one_effect(shop: Shop) -> None:
    product = await shop.product(100)
    same = command(repeatable=True)
    moved = await asyncio.gather(*(shop.stocks.move(product, "issue", 60, same) for _ in range(10)))
    assert len({movement.id for movement in moved}) == 1
    assert await shop.counts(product) == (40, 0, 40)
