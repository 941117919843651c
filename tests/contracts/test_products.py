"""Products in MongoDB: the version and the index decide every race, and a change and its event are one write."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128

from app.products.adapter.mongo import MongoProducts, ProductDeliveryRecord, ProductRecord
from app.products.application.imports import BULK, ProductImport
from app.products.application.service import ProductService
from app.products.domain.errors import ProductNotFound, SkuTaken
from app.products.domain.ports import Change, Filters, Name
from app.products.domain.product import Product, event_of
from core.clock import utc_now
from core.errors import PreconditionFailed
from core.events import OutboxEvent, Subscriber
from core.ids import new_id
from core.relay import Relay

pytestmark = pytest.mark.usefixtures("database")
on_mongodb = pytest.mark.parametrize("database", ["mongodb"], indirect=True)

PRODUCTS = MongoProducts()


class NoCopies:
    """Nothing is kept; remembers what was dropped."""

    def __init__(self) -> None:
        self.dropped: list[Name] = []

    async def get(self, model: Any, name: Name, tags: Sequence[Name], load: Any) -> Any:
        return await load()

    async def drop(self, *tags: Name) -> None:
        self.dropped += tags


class Nobody:
    async def run_for(self, aggregate_id: str) -> None:
        """Nobody listens."""


def product(sku: str = "AB-1", **fields: Any) -> Product:
    now = utc_now()
    values = {"id": new_id("prd"), "sku": sku, "name": "n", "created_at": now, "updated_at": now, **fields}
    return Product.model_validate(values)


def created(made: Product) -> Change:
    return Change(made, event_of(made, None, "service:x"))


def changed(before: Product, **fields: Any) -> Change:
    after = before.changed(fields, utc_now())
    return Change(after, event_of(after, before, "service:x"))


def service() -> ProductService:
    return ProductService(PRODUCTS, NoCopies(), Nobody(), utc_now)


async def outbox(product_id: str) -> list[int]:
    row = await ProductRecord.get_pymongo_collection().find_one({"_id": product_id})
    assert row is not None
    return [event["seq"] for event in row["outbox"]]


async def same(made: Product) -> bool:
    return (await PRODUCTS.get(made.id)).model_dump() == made.model_dump()


async def test_what_was_stored_is_read_to_the_last_digit() -> None:
    made = product(price={"amount": "999999999999999.0010", "currency": "CLF"}, tags=("a",), description="d$.x")
    assert await PRODUCTS.add(created(made)) == made
    assert await same(made)
    assert str((await PRODUCTS.get(made.id)).price.amount) == "999999999999999.0010"  # type: ignore[union-attr]
    row = await ProductRecord.get_pymongo_collection().find_one({"_id": made.id})
    assert row is not None
    assert row["price"]["amount"] == Decimal128("999999999999999.0010")
    with pytest.raises(ProductNotFound):
        await PRODUCTS.get("prd_x")


async def test_a_command_that_runs_twice_makes_one_product() -> None:
    made = product()
    await PRODUCTS.add(created(made))
    again = await PRODUCTS.add(created(made.model_copy(update={"name": "second run"})))
    assert (again.id, again.name) == (made.id, "n")
    with pytest.raises(SkuTaken):
        await PRODUCTS.add(created(product("ab-1")))


async def test_only_the_version_that_was_read_is_replaced() -> None:
    made = product()
    await PRODUCTS.add(created(made))
    first, second = changed(made, name="first"), changed(made, name="second")
    await PRODUCTS.replace(first)
    with pytest.raises(PreconditionFailed):
        await PRODUCTS.replace(second)
    assert await same(first.product)
    assert await outbox(made.id) == [1, 2]


async def test_a_sku_of_another_is_not_taken_over() -> None:
    one, other = product("one"), product("other")
    for made in (one, other):
        await PRODUCTS.add(created(made))
    with pytest.raises(SkuTaken):
        await PRODUCTS.replace(changed(one, sku="OTHER"))
    assert await same(one)
    assert await outbox(one.id) == [1]


async def test_many_at_once_are_stored_or_lost_each_by_itself() -> None:
    known, moved = product("known"), product("moved")
    for made in (known, moved):
        await PRODUCTS.add(created(made))
    await PRODUCTS.replace(changed(moved, name="by another"))
    fresh, taken = product("fresh"), product("KNOWN")
    changes = [created(fresh), created(taken), changed(known, name="better"), changed(moved, name="too late")]
    assert set(await PRODUCTS.write(changes)) == {taken.id, moved.id}
    assert await same(fresh)
    assert await same(changes[2].product)
    assert (await PRODUCTS.get(moved.id)).name == "by another"
    assert (await outbox(fresh.id), await outbox(known.id), await outbox(moved.id)) == ([1], [1, 2], [1, 2])
    later = [created(product("later")), changed(changes[2].product, name="best")]
    assert not await PRODUCTS.write(later)


async def test_lists_page_through_products_of_the_same_moment() -> None:
    now = utc_now()
    made = [product(f"S-{number}", created_at=now) for number in range(7)]
    for each in made:
        await PRODUCTS.add(created(each))
    seen: list[str] = []
    page = await PRODUCTS.list(Filters(q="s"), None, 3)
    while page.next is not None:
        seen += [each.id for each in page.items]
        page = await PRODUCTS.list(Filters(q="s"), page.next, 3)
    seen += [each.id for each in page.items]
    assert seen == sorted((each.id for each in made), reverse=True)


async def test_words_find_what_they_begin_in_any_script() -> None:
    for sku, name in (("A.1", "Große Säge"), ("A-2", "ΣΊΣΥΦΟΣ (x$)"), ("B", "日本語")):
        await PRODUCTS.add(created(product(sku, name=name)))

    async def found(q: str) -> set[str]:
        return {each.sku for each in (await PRODUCTS.list(Filters(q=q), None, 10)).items}

    assert await found("gros SÄ") == {"A.1"}
    assert await found("σίσυφος") == {"A-2"}
    assert await found("日本") == {"B"}
    assert await found("a") == {"A.1", "A-2"}
    assert await found("a.1") == {"A.1"}
    assert await found("äge") == await found("a b") == set()


@on_mongodb
async def test_of_many_that_want_one_sku_one_gets_it(database: str) -> None:
    def spelled(number: int) -> dict[str, str]:
        return {"sku": "ab-1" if number % 2 else "AB-1", "name": f"{number}"}

    made = await asyncio.gather(
        *(service().create("service:x", spelled(number)) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(each, Product) for each in made) == 1
    assert sum(isinstance(each, SkuTaken) for each in made) == 19
    assert await ProductRecord.get_pymongo_collection().count_documents({}) == 1


@on_mongodb
async def test_of_many_changes_of_one_version_one_wins(database: str) -> None:
    made = product()
    await PRODUCTS.add(created(made))

    def demand(found: Product) -> None:
        if found.version != 1:
            raise PreconditionFailed

    changes = (service().change("s", made.id, {"name": f"{number}"}, demand) for number in range(20))
    won = [each for each in await asyncio.gather(*changes, return_exceptions=True) if isinstance(each, Product)]
    assert [each.version for each in won] == [2]
    assert await same(won[0])
    assert await outbox(made.id) == [1, 2]


@on_mongodb
async def test_whoever_asks_for_no_version_is_not_refused_for_losing_a_race(database: str) -> None:
    made = product()
    await PRODUCTS.add(created(made))
    await asyncio.gather(
        service().archive("s", made.id, lambda _: None),
        service().change("s", made.id, {"name": "x"}, lambda _: None),
        service().change("s", made.id, {"tags": ("t",)}, lambda _: None),
    )
    found = await PRODUCTS.get(made.id)
    assert (found.status, found.name, found.tags, found.version) == ("archived", "x", ("t",), 4)
    assert await outbox(made.id) == [1, 2, 3, 4]


@on_mongodb
async def test_the_relay_takes_no_version_away(database: str) -> None:
    made = product()
    await PRODUCTS.add(created(made))
    seen: list[OutboxEvent] = []

    async def listen(event: OutboxEvent) -> None:
        seen.append(event)

    listener = Subscriber("listener", frozenset({"product.created", "product.archived"}), listen)
    relay = Relay(ProductRecord, ProductDeliveryRecord, [listener])
    await relay.run_for(made.id)
    telling = ProductService(PRODUCTS, NoCopies(), relay, utc_now)
    await telling.archive("service:x", made.id, lambda _: None)
    assert [(event.event_id, event.type) for event in seen] == [
        (f"evt_{made.id}_1", "product.created"), (f"evt_{made.id}_2", "product.archived"),
    ]  # fmt: skip
    assert seen[1].data["status"] == "archived"
    assert await outbox(made.id) == []


class Racing(MongoProducts):
    """Somebody else changes what an import has just read, so many times."""

    def __init__(self, races: int) -> None:
        self.races = races

    async def find_by_skus(self, keys: Any) -> Sequence[Product]:
        found = await super().find_by_skus(keys)
        if self.races:
            self.races -= 1
            for each in found:
                await super().replace(changed(each, description=f"race {self.races}"))
        return found


@pytest.mark.parametrize(
    ("races", "outcomes"),
    [(1, ["updated", "created"]), (2, ["precondition_failed", "created"])],
)
async def test_an_imported_row_that_loses_a_race_is_tried_once_more(races: int, outcomes: list[str]) -> None:
    made = product("A")
    await PRODUCTS.add(created(made))
    importing = ProductImport(Racing(races), NoCopies(), utc_now)
    assert await importing.run("s", [{"sku": "A", "name": "new"}, {"sku": "B", "name": "b"}]) == outcomes
    found = await PRODUCTS.get(made.id)
    assert (found.name, found.description) == ("new" if races == 1 else "n", "race 0")
    assert await outbox(made.id) == list(range(1, found.version + 1))


async def test_two_imports_of_one_file_at_once_make_each_product_once() -> None:
    rows = [{"sku": f"S-{number}", "name": "n"} for number in range(BULK + 50)]
    both = await asyncio.gather(*(ProductImport(PRODUCTS, NoCopies(), utc_now).run("s", rows) for _ in range(2)))
    counts = [outcome for outcomes in both for outcome in outcomes]
    assert (counts.count("created"), counts.count("updated")) == (len(rows), len(rows))
    assert await ProductRecord.get_pymongo_collection().count_documents({"version": 1}) == len(rows)


@on_mongodb
async def test_ten_thousand_rows_are_imported_and_changed(database: str) -> None:
    copies = NoCopies()
    importing = ProductImport(PRODUCTS, copies, utc_now)

    def rows(name: str) -> list[dict[str, Any]]:
        return [{"sku": f"S-{number}", "name": name} for number in range(10_000)]

    for name, outcome in (("first", "created"), ("first", "updated"), ("second", "updated")):
        assert set(await importing.run("s", rows(name))) == {outcome}
    found = ProductRecord.get_pymongo_collection()
    assert await found.count_documents({"name": "second", "version": 2, "outbox.seq": [1, 2]}) == 0
    assert await found.count_documents({"name": "second", "version": 2, "outbox": {"$size": 2}}) == 10_000
    assert copies.dropped == [("products",)] * 100  # nothing was dropped where nothing was written


async def test_amounts_compare_as_money_not_as_text() -> None:
    made = product(price={"amount": Decimal("1.50"), "currency": "EUR"})
    await PRODUCTS.add(created(made))
    (found,) = await PRODUCTS.find_by_skus(["ab-1"])
    assert found.changed({"price": made.price}, utc_now()) is found
