"""Stock over HTTP: the contract, one behaviour at a time."""

from typing import Any

import pytest

from tests.clients import problem
from tests.integration.inventory.conftest import Shop

UNKNOWN = "prd_" + "0" * 26


async def test_a_new_product_has_zeros_and_its_product(shop: Shop) -> None:
    product = await shop.product(name="Schraube ½ ★", price={"amount": "12.5", "currency": "EUR"})
    answer = await shop.get(f"/inventory/{product}")
    stock = answer.json()
    assert answer.status_code == 200, answer.text
    assert {name: stock[name] for name in ("product_id", "on_hand", "reserved", "available", "threshold")} == {
        "product_id": product, "on_hand": 0, "reserved": 0, "available": 0, "threshold": 0,
    }  # fmt: skip
    told = stock["product"]
    assert (told["name"], told["price"]) == ("Schraube ½ ★", {"amount": "12.50", "currency": "EUR"})
    assert (told["status"], told["stale"]) == ("active", False)
    assert told["as_of"].endswith("Z")


async def test_an_etag_saves_the_body_until_something_changes(shop: Shop) -> None:
    product = await shop.product()
    tag = (await shop.get(f"/inventory/{product}")).headers["etag"]
    again = await shop.get(f"/inventory/{product}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    await shop.move(product, "receive", 1)
    assert (await shop.get(f"/inventory/{product}", headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize("name", [UNKNOWN, "x", "%00$ne", "a.b"])
async def test_what_products_does_not_know_is_not_found(shop: Shop, name: str) -> None:
    problem(await shop.get(f"/inventory/{name}"), 404, "product_not_found")
    problem(await shop.get(f"/inventory/{name}/movements"), 404, "product_not_found")
    assert await shop.move(name, "receive", 1) == "product_not_found"
    assert result_of(await shop.put(f"/inventory/{name}/threshold", json={"threshold": 1})) == "product_not_found"


async def test_nobody_gets_past_the_door(shop: Shop) -> None:
    for method, path in (
        ("GET", "/inventory"), ("GET", f"/inventory/{UNKNOWN}"), ("POST", f"/inventory/{UNKNOWN}/movements"),
        ("PUT", f"/inventory/{UNKNOWN}/on-hand"), ("POST", "/inventory/reservations"),
        ("POST", "/inventory/reservations/rsv_1/commit"),
    ):  # fmt: skip
        problem(await shop.http.request(method, path), 401, "api_key_missing")
        problem(await shop.http.request(method, path, headers={"X-API-Key": "other"}), 401, "api_key_invalid")


async def test_a_movement_answers_with_what_it_left(shop: Shop) -> None:
    product = await shop.product()
    received = await shop.move(product, "receive", 10, reference="order 7")
    assert set(received) == {
        "movement_id", "seq", "kind", "quantity", "on_hand_after", "reserved_after", "available_after", "created_at",
    }  # fmt: skip
    assert (received["seq"], received["kind"], received["quantity"], received["on_hand_after"]) == (
        1,
        "receive",
        10,
        10,
    )
    issued = await shop.move(product, "issue", 4)
    adjusted = await shop.move(product, "adjust", -1)
    assert [issued["available_after"], adjusted["available_after"], adjusted["seq"]] == [6, 5, 3]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "receive", "quantity": 0}, "/quantity"),
        ({"kind": "issue", "quantity": -1}, "/quantity"),
        ({"kind": "adjust", "quantity": 0}, "/quantity"),
        ({"kind": "receive", "quantity": 10**12 + 1}, "/quantity"),
        ({"kind": "receive", "quantity": 1.0}, "/quantity"),
        ({"kind": "receive", "quantity": True}, "/quantity"),
        ({"kind": "commit", "quantity": 1}, "/kind"),
        ({"kind": "receive"}, "/quantity"),
        ({"kind": "receive", "quantity": 1, "reason": "\n"}, "/reason"),
        ({"kind": "receive", "quantity": 1, "other": 1}, "/other"),
    ],
)
async def test_a_movement_that_means_nothing_is_refused(shop: Shop, body: dict[str, Any], pointer: str) -> None:
    product = await shop.product()
    refused = problem(await shop.post(f"/inventory/{product}/movements", json=body), 422, "validation_failed")
    assert refused["errors"][0]["pointer"] == pointer


async def test_stock_never_becomes_negative(shop: Shop) -> None:
    product = await shop.product(5)
    assert await shop.move(product, "issue", 6) == "insufficient_stock"
    assert await shop.move(product, "adjust", -6) == "insufficient_stock"
    await shop.reserve({product: 3})
    assert await shop.move(product, "issue", 3) == "insufficient_stock"
    assert await shop.counts(product) == (5, 3, 2)


async def test_the_largest_quantity_stays_exact(shop: Shop) -> None:
    product = await shop.product(10**12)
    await shop.move(product, "receive", 10**12)
    await shop.move(product, "issue", 1)
    assert await shop.counts(product) == (2 * 10**12 - 1, 0, 2 * 10**12 - 1)


async def test_an_archived_product_takes_nothing_in_and_gives_out_what_is_there(shop: Shop) -> None:
    product = await shop.product(10)
    kept, given = await shop.reserve({product: 2}), await shop.reserve({product: 2})
    assert (await shop.call("DELETE", f"/products/{product}")).status_code == 204
    assert await shop.move(product, "receive", 1) == "product_archived"
    assert await shop.reserve({product: 1}) == "product_archived"
    assert (await shop.move(product, "issue", 1))["on_hand_after"] == 9
    assert (await shop.end(kept["reservation_id"], "commit"))["status"] == "committed"
    assert (await shop.end(given["reservation_id"], "release"))["status"] == "released"
    stock = await shop.stock(product)
    assert (stock["on_hand"], stock["product"]["status"]) == (7, "archived")


async def test_the_history_is_newest_first_and_pages_without_gaps(shop: Shop) -> None:
    product = await shop.product(50)
    for _ in range(6):
        await shop.move(product, "issue", 1, reason="sold", reference="till 1")
    await shop.reserve({product: 1})
    seen, path = [], f"/inventory/{product}/movements?limit=3"
    while path:
        page = await shop.get(path)
        seen += page.json()["items"]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert [entry["seq"] for entry in seen] == list(range(8, 0, -1))
    assert (seen[0]["kind"], seen[1]["reason"], seen[1]["reference"]) == ("reserve", "sold", "till 1")
    assert seen[0]["reservation_id"].startswith("rsv_")
    other = await shop.product(1)
    cursor = (await shop.get(f"/inventory/{product}/movements?limit=3")).json()["next_cursor"]
    problem(await shop.get(f"/inventory/{other}/movements?cursor={cursor}"), 400, "cursor_invalid")


async def test_stock_is_set_where_it_is_what_was_expected(shop: Shop) -> None:
    product, path = await shop.product(10), "/inventory/{}/on-hand"
    path = path.format(product)
    assert result_of(await shop.put(path, json={"quantity": 7, "expected_quantity": 9})) == "stock_changed"
    assert (await shop.put(path, json={"quantity": 7, "expected_quantity": 10})).json()["on_hand"] == 7
    assert (await shop.put(path, json={"quantity": 8, "expected_quantity": None})).json()["on_hand"] == 8
    problem(await shop.put(path, json={"quantity": 8}), 422, "validation_failed")
    problem(await shop.put(path, json={"quantity": -1, "expected_quantity": 8}), 422, "validation_failed")
    assert [(row["kind"], row["quantity"]) for row in await shop.movements(product)][1:] == [("set", -3), ("set", 1)]


async def test_any_stock_that_there_can_be_may_be_expected(shop: Shop) -> None:
    product, most = await shop.product(10**12), 10**12 + 12
    await shop.move(product, "receive", 12)
    answer = await shop.put(f"/inventory/{product}/on-hand", json={"quantity": 5, "expected_quantity": most})
    assert (answer.status_code, answer.json()["on_hand"]) == (200, 5)


async def test_setting_what_is_there_moves_nothing(shop: Shop) -> None:
    product = await shop.product(10)
    before = await shop.stock(product)
    answer = await shop.put(f"/inventory/{product}/on-hand", json={"quantity": 10, "expected_quantity": 10})
    assert (answer.status_code, answer.json()["version"]) == (200, before["version"])
    assert len(await shop.movements(product)) == 1


async def test_stock_is_not_set_under_what_is_reserved(shop: Shop) -> None:
    product = await shop.product(10)
    await shop.reserve({product: 4})
    path = f"/inventory/{product}/on-hand"
    assert result_of(await shop.put(path, json={"quantity": 3, "expected_quantity": None})) == "insufficient_stock"
    assert (await shop.put(path, json={"quantity": 4, "expected_quantity": None})).json()["available"] == 0


@pytest.mark.parametrize(
    ("path", "body"), [("on-hand", {"quantity": 3, "expected_quantity": None}), ("threshold", {"threshold": 2})]
)
async def test_if_match_compares_the_version_of_the_level(shop: Shop, path: str, body: dict[str, Any]) -> None:
    product = await shop.product(10)
    tag = (await shop.get(f"/inventory/{product}")).headers["etag"]
    await shop.move(product, "issue", 1)
    url = f"/inventory/{product}/{path}"
    for stale in (tag, 'W/"v2-1"', '"v2"', "v2-1", '"other"'):
        problem(await shop.put(url, json=body, headers={"If-Match": stale}), 412, "precondition_failed")
    current = (await shop.get(f"/inventory/{product}")).headers["etag"]
    answer = await shop.put(url, json=body, headers={"If-Match": f'"other", {current}'})
    assert answer.status_code == 200
    assert answer.headers["etag"] == (await shop.get(f"/inventory/{product}")).headers["etag"] != current
    assert (await shop.put(url, json=body, headers={"If-Match": "*"})).status_code == 200


async def test_low_stock_is_told_once_for_each_crossing(shop: Shop) -> None:
    product = await shop.product(10)
    path = f"/inventory/{product}/threshold"
    assert (await shop.put(path, json={"threshold": 5})).json()["threshold"] == 5
    for quantity in (4, 1, 1, 1):  # 6, 5: low, 4, 3
        await shop.move(product, "issue", quantity)
    await shop.move(product, "receive", 5)  # 8
    await shop.reserve({product: 3})  # 5: low
    await shop.put(path, json={"threshold": 4})  # not low any more
    await shop.put(path, json={"threshold": 5})  # low, without a movement
    await shop.put(path, json={"threshold": 5})
    low = [event["data"]["available"] for event in await shop.events(product) if event["type"] == "stock.low"]
    assert low == [5, 5, 5]


async def test_a_threshold_of_zero_is_no_alarm(shop: Shop) -> None:
    product = await shop.product(1)
    await shop.move(product, "issue", 1)
    assert {event["type"] for event in await shop.events(product)} == {"stock.changed"}


async def test_only_low_stock_is_listed_where_that_is_asked_for(shop: Shop) -> None:
    products = [await shop.product(3) for _ in range(4)]
    for product in products[:3]:
        await shop.put(f"/inventory/{product}/threshold", json={"threshold": 3})
    await shop.move(products[0], "receive", 1)
    seen, path = [], "/inventory?low=true&limit=1"
    while path:
        page = await shop.get(path)
        seen += [item["product_id"] for item in page.json()["items"]]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert [name for name in seen if name in products] == [products[2], products[1]]
    everything = (await shop.get("/inventory")).json()
    assert [item["product_id"] for item in everything["items"][:4]] == products[::-1]
    cursor = (await shop.get("/inventory?low=true&limit=1")).json()["next_cursor"]
    problem(await shop.get(f"/inventory?cursor={cursor}"), 400, "cursor_invalid")


async def test_every_movement_has_one_event_and_each_event_a_name_of_its_own(shop: Shop) -> None:
    product = await shop.product(10)
    await shop.move(product, "issue", 2, reason="broken")
    await shop.put(f"/inventory/{product}/threshold", json={"threshold": 9})
    events = await shop.events(product)
    movements = await shop.movements(product)
    changed = [event for event in events if event["type"] == "stock.changed"]
    assert [event["seq"] for event in changed] == [row["seq"] for row in movements]
    assert {event["owner_id"] for event in events} == {"service:api_key"}
    assert len({event["event_id"] for event in events}) == len(events) == 3
    assert {"movement_id", "kind", "on_hand", "reserved", "available", "product_id", "seq"} <= set(changed[1]["data"])
    assert (changed[1]["data"]["available"], changed[1]["data"]["reason"]) == (8, "broken")


def result_of(answer: Any) -> Any:
    return answer.json()["code"]
