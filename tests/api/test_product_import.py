"""Imports of products: rows stand or fall by themselves, and sending a file twice is harmless."""

import json
from typing import Any

import pytest

from app.products.adapter.import_file import MAX_BYTES
from app.products.adapter.mongo import ProductRecord
from tests.clients import Service, problem


async def imported(shop: Service, *rows: dict[str, Any] | str, **headers: str) -> dict[str, Any]:
    lines = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    kind = {"Content-Type": "application/x-ndjson"}
    answer = await shop.post("/products/import", content=lines.encode(), headers=kind | headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["created"] + body["updated"] + body["failed"] == len(rows)
    return body


async def products(shop: Service) -> dict[str, dict[str, Any]]:
    items = (await shop.get("/products", params={"limit": 100})).json()["items"]
    return {item["sku"]: item for item in items}


async def events() -> int:
    rows = await ProductRecord.get_pymongo_collection().find({}).to_list()
    return sum(len(row["outbox"]) for row in rows)


async def test_rows_make_and_change_products(shop: Service) -> None:
    known = (
        await shop.post("/products", json={"sku": "A", "name": "old", "description": "stays", "tags": ["t"]})
    ).json()
    price = {"amount": "1.5", "currency": "EUR"}
    counts = await imported(shop, {"sku": "a", "name": "new", "price": price}, {"sku": "B", "name": "b", "tags": ["x"]})
    assert counts == {"created": 1, "updated": 1, "failed": 0, "errors": []}
    found = await products(shop)
    assert found["a"] == {
        **known, "sku": "a", "name": "new", "price": {"amount": "1.50", "currency": "EUR"}, "version": 2,
        "updated_at": found["a"]["updated_at"],
    }  # fmt: skip
    assert (found["B"]["version"], found["B"]["tags"]) == (1, ["x"])
    assert (await shop.get("/products", params={"q": "new"})).json()["items"] == [found["a"]]


async def test_a_file_sent_twice_changes_nothing_more(shop: Service) -> None:
    rows = [
        {"sku": f"S-{number}", "name": f"n{number}", "price": {"amount": "1", "currency": "EUR"}}
        for number in range(450)
    ]
    assert (await imported(shop, *rows))["created"] == 450
    before = await products(shop)
    assert await imported(shop, *rows) == {"created": 0, "updated": 450, "failed": 0, "errors": []}
    assert await products(shop) == before
    assert await events() == 450


async def test_a_bad_row_stops_no_other(shop: Service) -> None:
    gone = (await shop.post("/products", json={"sku": "gone", "name": "x"})).json()
    await shop.call("DELETE", f"/products/{gone['product_id']}")
    counts = await imported(
        shop, {"sku": "A", "name": "a"}, {"sku": "a", "name": "again"}, "{", {"sku": "GONE", "name": "x"},
        {"sku": "B", "name": "b", "price": {"amount": "1.001", "currency": "EUR"}}, {"sku": "B", "name": "b"},
    )  # fmt: skip
    assert counts == {
        "created": 2, "updated": 0, "failed": 4,
        "errors": [{"row": 2, "code": "duplicate_row"}, {"row": 3, "code": "validation_failed"},
                   {"row": 4, "code": "product_archived"}, {"row": 5, "code": "validation_failed"}],
    }  # fmt: skip
    assert set(await products(shop)) == {"A", "B", "gone"}


async def test_csv_says_the_same(shop: Service) -> None:
    text = "sku,name,description,amount,currency,tags\nA,a,,12.5,EUR,x|y\nB,b,d,,,\n,c,,,,\n"
    kind = {"Content-Type": "text/csv"}
    answer = await shop.post("/products/import", content=text.encode(), headers=kind)
    assert answer.json() == {
        "created": 2, "updated": 0, "failed": 1, "errors": [{"row": 3, "code": "validation_failed"}]
    }  # fmt: skip
    found = await products(shop)
    assert (found["A"]["price"], found["A"]["tags"]) == ({"amount": "12.50", "currency": "EUR"}, ["x", "y"])
    assert (found["B"]["price"], found["B"]["description"]) == (None, "d")


async def test_too_many_rows_write_nothing(shop: Service) -> None:
    lines = b"".join(b'{"sku":"%d","name":"n"}\n' % number for number in range(10_001))
    kind = {"Content-Type": "application/x-ndjson"}
    problem(await shop.post("/products/import", content=lines, headers=kind), 422, "validation_failed")
    assert await products(shop) == {}


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
async def test_another_type_is_refused(shop: Service, kind: str) -> None:
    answer = await shop.post("/products/import", content=b'{"sku":"A","name":"n"}', headers={"Content-Type": kind})
    problem(answer, 415, "unsupported_media_type")


async def test_a_body_that_is_too_large_is_not_read(shop: Service) -> None:
    headers = {"Content-Type": "text/csv", "Content-Length": str(MAX_BYTES + 1)}
    problem(await shop.post("/products/import", content=b"", headers=headers), 413, "body_too_large")
    broken = await shop.post("/products/import", content=b"\xff", headers={"Content-Type": "text/csv"})
    problem(broken, 400, "malformed_request")


async def test_a_repeated_import_gets_the_first_answer(shop: Service) -> None:
    headers = {"Content-Type": "text/csv", "Idempotency-Key": "once"}
    first, again = [await shop.post("/products/import", content=b"sku,name\nA,a\n", headers=headers) for _ in range(2)]
    assert (first.json()["created"], again.json(), again.headers["idempotency-replayed"]) == (1, first.json(), "true")
    other = await shop.post("/products/import", content=b"sku,name\nB,b\n", headers=headers)
    problem(other, 422, "idempotency_mismatch")
