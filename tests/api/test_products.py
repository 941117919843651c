"""Products: created, found, changed by version, archived."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from dependency_injector import providers

from app.container import Container
from app.products.adapter.mongo import ProductRecord
from app.products.domain.ports import Name
from tests.clients import Person, Service, problem

HAMMER = {
    "sku": "AB-100", "name": "Hammer", "description": "Steel", "price": {"amount": "12.5", "currency": "EUR"},
    "tags": ["tools", "iron"],
}  # fmt: skip


async def created(shop: Service, **fields: Any) -> dict[str, Any]:
    answer = await shop.post("/products", json={**HAMMER, **fields})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def change(shop: Service, product: dict[str, Any], tag: str | None, **fields: Any) -> httpx.Response:
    headers = {} if tag is None else {"If-Match": tag}
    return await shop.call("PATCH", f"/products/{product['product_id']}", json=fields, headers=headers)


async def events(product: dict[str, Any]) -> list[dict[str, Any]]:
    row = await ProductRecord.get_pymongo_collection().find_one({"_id": product["product_id"]})
    assert row is not None
    return list(row["outbox"])


async def skus(shop: Service, **filters: str) -> list[str]:
    answer = await shop.get("/products", params=filters)
    assert answer.status_code == 200, answer.text
    return [item["sku"] for item in answer.json()["items"]]


async def test_a_product_is_created_and_read(shop: Service) -> None:
    answer = await shop.post("/products", json={**HAMMER, "sku": " AB-100 "})
    product = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/products/{product['product_id']}"
    assert answer.headers["etag"] == '"v1"'
    assert product == {
        **HAMMER, "price": {"amount": "12.50", "currency": "EUR"}, "status": "active", "version": 1,
        "product_id": product["product_id"], "created_at": product["created_at"], "updated_at": product["updated_at"],
    }  # fmt: skip
    assert product["created_at"].endswith("Z")
    for prefix in ("", "/v1"):
        read = await shop.get(f"{prefix}/products/{product['product_id']}")
        assert (read.json(), read.headers["etag"]) == (product, '"v1"')


async def test_little_is_required(shop: Service) -> None:
    product = (await shop.post("/products", json={"sku": "x", "name": "y"})).json()
    assert (product["description"], product["price"], product["tags"]) == (None, None, [])


async def test_an_event_is_written_with_every_change_and_holds_the_public_view(shop: Service) -> None:
    product = await created(shop)
    changed = (await change(shop, product, '"v1"', name="Mallet")).json()
    await shop.call("DELETE", f"/products/{product['product_id']}")
    told = await events(product)
    assert [event["type"] for event in told] == ["product.created", "product.updated", "product.archived"]
    assert [event["data"] for event in told[:2]] == [product, changed]
    assert [event["seq"] for event in told] == [1, 2, 3]
    assert {event["owner_id"] for event in told} == {"service:api_key"}


async def test_only_services_with_a_key_come_in(http: httpx.AsyncClient, shop: Service, ada: Person) -> None:
    product = await created(shop)
    path = f"/products/{product['product_id']}"
    for method, target in (
        ("POST", "/products"), ("GET", "/products"), ("POST", "/products/import"),
        ("GET", path), ("PATCH", path), ("DELETE", path),
    ):  # fmt: skip
        problem(await http.request(method, target), 401, "api_key_missing")
        problem(await ada.call(method, target), 401, "api_key_missing")
        problem(await Service(http, "wrong").call(method, target), 401, "api_key_invalid")
    assert (await shop.get(path)).json() == product


@pytest.mark.parametrize("sku", ["AB-100", "ab-100", "ＡＢ-100", " Ab-100 "])
async def test_a_sku_is_taken_whatever_its_case_also_by_what_is_archived(shop: Service, sku: str) -> None:
    product = await created(shop)
    problem(await shop.post("/products", json={"sku": sku, "name": "x"}), 409, "sku_taken")
    await shop.call("DELETE", f"/products/{product['product_id']}")
    problem(await shop.post("/products", json={"sku": sku, "name": "x"}), 409, "sku_taken")
    other = await created(shop, sku="other")
    problem(await change(shop, other, '"v1"', sku=sku), 409, "sku_taken")
    assert (await change(shop, product, '"v2"', sku=sku)).status_code == 200  # its own


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("sku", "", "/sku"), ("sku", " ", "/sku"), ("sku", "x" * 65, "/sku"), ("sku", "a\tb", "/sku"),
        ("sku", 7, "/sku"), ("sku", "a\u0085b", "/sku"), ("name", "", "/name"), ("name", "x" * 201, "/name"),
        ("description", 7, "/description"), ("tags", ["x"] * 21, "/tags"), ("tags", [""], "/tags/0"),
        ("tags", ["x" * 51], "/tags/0"), ("tags", "x", "/tags"), ("tags", None, "/tags"),
        ("status", "active", "/status"),
        ("price", {"amount": 12.5, "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": 12, "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "12.505", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "12.500", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "1.0", "currency": "JPY"}, "/price/amount"),
        ("price", {"amount": "-1", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "1e3", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "1.", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "1\n", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "١", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "1" * 16, "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "NaN", "currency": "EUR"}, "/price/amount"),
        ("price", {"amount": "1", "currency": "eur"}, "/price/currency"),
        ("price", {"amount": "1", "currency": "XXX"}, "/price/currency"),
        ("price", {"amount": "1"}, "/price/currency"), ("price", {"currency": "EUR"}, "/price/amount"),
        ("price", "12.50", "/price"), ("colour", "red", "/colour"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_where_it_stands(
    shop: Service, field: str, value: object, pointer: str
) -> None:
    body = problem(await shop.post("/products", json={**HAMMER, field: value}), 422, "validation_failed")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


async def test_an_unknown_product_is_not_there(shop: Service) -> None:
    for path in (f"/products/prd_{'0' * 26}", "/products/x", "/products/import"):
        problem(await shop.get(path), 404 if path != "/products/import" else 405, *_code(path))
    problem(await shop.call("DELETE", "/products/x"), 404, "product_not_found")
    problem(await shop.call("PATCH", "/products/x", json={}, headers={"If-Match": "*"}), 404, "product_not_found")
    problem(await shop.call("PATCH", "/products/x", json={}), 404, "product_not_found")


async def test_a_version_that_is_known_is_not_sent_again(shop: Service) -> None:
    product = await created(shop)
    path = f"/products/{product['product_id']}"
    same = await shop.get(path, headers={"If-None-Match": '"v1"'})
    assert (same.status_code, same.headers["etag"], same.content) == (304, '"v1"', b"")
    assert (await shop.get(path, headers={"If-None-Match": '"v2"'})).status_code == 200


async def test_a_change_names_the_version_it_changes(shop: Service) -> None:
    product = await created(shop)
    problem(await change(shop, product, None, name="x"), 428, "precondition_required")
    for tag in ('"v2"', 'W/"v1"', "v1", "1", '"1"', "", 'x"v1"', '"v1', '"v0", "v2"'):
        problem(await change(shop, product, tag, name="x"), 412, "precondition_failed")
    assert (await shop.get(f"/products/{product['product_id']}")).json() == product
    for number, tag in enumerate(('"v1"', "*", '"v2", "v3"'), 2):
        answer = await change(shop, product, tag, name=f"x{number}")
        assert (answer.status_code, answer.headers["etag"]) == (200, f'"v{number}"')
        assert answer.json()["version"] == number


async def test_a_change_merges(shop: Service) -> None:
    product = await created(shop)
    changed = (await change(shop, product, "*", description=None, price=None, tags=[], sku="n")).json()
    assert changed == {
        **product, "description": None, "price": None, "tags": [], "sku": "n", "version": 2,
        "updated_at": changed["updated_at"],
    }  # fmt: skip
    assert changed["updated_at"] >= product["updated_at"]
    for name in ("sku", "name", "tags", "status"):
        problem(await change(shop, product, "*", **{name: None}), 422, "validation_failed")
    problem(await change(shop, product, "*", version=7), 422, "validation_failed")
    problem(await change(shop, product, "*", price={"amount": "1"}), 422, "validation_failed")


async def test_where_nothing_changes_nothing_is_written(shop: Service) -> None:
    product = await created(shop)
    same = {**HAMMER, "price": {"amount": "12.50", "currency": "EUR"}, "status": "active"}
    for fields in ({}, same):
        answer = await change(shop, product, '"v1"', **fields)
        assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, product, '"v1"')
    assert len(await events(product)) == 1


async def test_a_product_is_archived_once_and_can_be_restored(shop: Service) -> None:
    product = await created(shop)
    path = f"/products/{product['product_id']}"
    problem(await shop.call("DELETE", path, headers={"If-Match": '"v9"'}), 412, "precondition_failed")
    for _ in range(2):
        answer = await shop.call("DELETE", path)
        assert (answer.status_code, answer.content) == (204, b"")
    archived = (await shop.get(path)).json()
    assert (archived["status"], archived["version"]) == ("archived", 2)
    assert len(await events(product)) == 2
    restored = (await change(shop, product, '"v2"', status="active")).json()
    assert (restored["status"], restored["version"]) == ("active", 3)
    assert (await events(product))[-1]["type"] == "product.updated"


async def test_lists_are_newest_first_and_go_on_where_they_stopped(shop: Service) -> None:
    for number in range(5):
        await created(shop, sku=f"S-{number}")
    first = await shop.get("/products", params={"limit": 3})
    assert [item["sku"] for item in first.json()["items"]] == ["S-4", "S-3", "S-2"]
    cursor = first.json()["next_cursor"]
    assert first.headers["link"] == f'</products?limit=3&cursor={cursor}>; rel="next"'
    rest = await shop.get("/products", params={"limit": 3, "cursor": cursor})
    assert ([item["sku"] for item in rest.json()["items"]], rest.json()["next_cursor"]) == (["S-1", "S-0"], None)
    problem(await shop.get("/products", params={"cursor": cursor, "q": "x"}), 400, "cursor_invalid")
    problem(await shop.get("/products", params={"cursor": "x"}), 400, "cursor_invalid")
    problem(await shop.get("/products", params={"limit": 0}), 422, "validation_failed")
    problem(await shop.get("/products", params={"status": "gone"}), 422, "validation_failed")


async def test_products_are_found(shop: Service) -> None:
    for sku, name, tags in (("AB-1", "Steel hammer", ["Tools"]), ("AB-2", "Große Säge", []), ("C.1", "x", ["ham"])):
        await created(shop, sku=sku, name=name, tags=tags)
    gone = await created(shop, sku="D", name="Hammock", tags=[])
    await shop.call("DELETE", f"/products/{gone['product_id']}")
    assert await skus(shop, sku="ab-1") == await skus(shop, sku=" ＡB-1 ") == ["AB-1"]
    assert await skus(shop, sku="ab") == await skus(shop, sku="") == []
    assert await skus(shop, status="archived") == ["D"]
    assert await skus(shop, status="active") == ["C.1", "AB-2", "AB-1"]
    assert await skus(shop, q="ham") == ["D", "C.1", "AB-1"]
    assert await skus(shop, q="HAMMER steel") == await skus(shop, q="ab-1") == await skus(shop, q="tool") == ["AB-1"]
    assert await skus(shop, q="gros SÄ") == await skus(shop, q="GROSSE") == ["AB-2"]
    assert await skus(shop, q="ammer") == await skus(shop, q="ham nothing") == []
    assert await skus(shop, q="ham", status="active", sku="ab-1") == ["AB-1"]
    assert await skus(shop, q="ham", sku="ab-2") == await skus(shop, status="archived", sku="ab-2") == []
    assert await skus(shop, q=".*") == await skus(shop) == ["D", "C.1", "AB-2", "AB-1"]  # no word, no condition
    assert await skus(shop, q="^ab $ne (x") == []


async def test_a_repeated_creation_gets_the_first_answer(shop: Service) -> None:
    key = {"Idempotency-Key": "once"}
    first, again = [await shop.post("/products", json=HAMMER, headers=key) for _ in range(2)]
    assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (201, 201, "true")
    problem(await shop.post("/products", json={**HAMMER, "name": "y"}, headers=key), 422, "idempotency_mismatch")
    taken = {"Idempotency-Key": "refused"}
    problem(await shop.post("/products", json=HAMMER, headers=taken), 409, "sku_taken")
    assert (await shop.post("/products", json={**HAMMER, "sku": "z"}, headers=taken)).status_code == 201


async def test_other_modules_get_views_of_what_is_so_now(shop: Service, container: Container) -> None:
    views = container.products.service()
    products = [await created(shop, sku=f"S-{number}") for number in range(3)]
    await shop.call("DELETE", f"/products/{products[0]['product_id']}")
    view = await views.find_view(products[0]["product_id"])
    assert view is not None
    assert (view.sku, str(view.price.amount), view.status, view.version) == ("S-0", "12.50", "archived", 2)
    assert await views.find_view("prd_x") is None
    page = await views.list_views(None, 2)
    rest = await views.list_views(page.next, 2)
    assert [view.sku for view in (*page.items, *rest.items)] == ["S-2", "S-1", "S-0"]


class CopiesTwin:
    """A cache in this process."""

    def __init__(self) -> None:
        self.kept: dict[Name, tuple[Sequence[Name], str]] = {}
        self.reads = 0

    async def get(self, model: Any, name: Name, tags: Sequence[Name], load: Callable[[], Awaitable[Any]]) -> Any:
        if name in self.kept:
            return model.model_validate_json(self.kept[name][1])
        self.reads += 1
        value = await load()
        self.kept[name] = tags, value.model_dump_json()
        return value

    async def drop(self, *tags: Name) -> None:
        self.kept = {name: kept for name, kept in self.kept.items() if not set(kept[0]) & set(tags)}


@pytest.fixture
def copies(container: Container) -> CopiesTwin:
    copies = CopiesTwin()
    container.cache.override(providers.Object(copies))
    return copies


async def test_reads_are_answered_from_copies_until_something_changes(shop: Service, copies: CopiesTwin) -> None:
    product = await created(shop, sku="one")
    path = f"/products/{product['product_id']}"

    async def seen() -> tuple[dict[str, Any], list[str], list[str]]:
        await shop.get(path)
        before = copies.reads
        found = ((await shop.get(path)).json(), await skus(shop, sku="one"), await skus(shop, sku="two"))
        await skus(shop, sku="one")
        assert copies.reads <= before + 2
        return found

    assert await seen() == (product, ["one"], [])
    await shop.get(path)
    problem(await change(shop, product, '"v9"', name="x"), 412, "precondition_failed")
    changed = (await change(shop, product, '"v1"', sku="two")).json()
    assert await seen() == (changed, [], ["two"])
    await shop.call("DELETE", path)
    assert (await seen())[0]["status"] == "archived"
    await created(shop, sku="one")
    assert (await seen())[1:] == (["one"], ["two"])
    await shop.post("/products/import", content=b"sku,name\none,new\n", headers={"Content-Type": "text/csv"})
    assert (await shop.get("/products", params={"sku": "one"})).json()["items"][0]["name"] == "new"


async def test_no_decision_is_taken_on_a_copy(shop: Service, copies: CopiesTwin) -> None:
    product = await created(shop)
    path = f"/products/{product['product_id']}"
    await shop.get(path)
    stale = dict(copies.kept)
    await change(shop, product, '"v1"', name="x")
    copies.kept = stale
    problem(await change(shop, product, '"v1"', name="y"), 412, "precondition_failed")
    copies.kept = stale
    assert (await change(shop, product, '"v2"', name="y")).json()["version"] == 3
    problem(await shop.call("DELETE", path, headers={"If-Match": '"v1"'}), 412, "precondition_failed")


async def test_of_two_changes_of_one_version_one_wins(shop: Service) -> None:
    product = await created(shop)
    answers = await asyncio.gather(*(change(shop, product, '"v1"', name=f"n{number}") for number in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]


def _code(path: str) -> tuple[str]:
    return ("method_not_allowed",) if path == "/products/import" else ("product_not_found",)
