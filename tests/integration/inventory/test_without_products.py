"""Inventory as a service of its own: products behind HTTP, there, away and back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.container import build_container
from app.inventory.adapter.catalog_http import HttpProductCatalog
from app.inventory.adapter.mongo import SnapshotRecord
from app.runtime import migrate
from app.server import create_app
from core.clock import utc_now
from core.events import OutboxEvent
from core.ids import new_id
from core.local.stack import LocalServers
from tests.clients import API_KEY, problem
from tests.integration.inventory.conftest import Shop, built, drop, settings_for

WITHIN_S = 3.5


class Cable(httpx.AsyncBaseTransport):
    """Between the two; can be cut."""

    def __init__(self, app: Any) -> None:
        self._inner, self.is_cut, self.asked = httpx.ASGITransport(app), False, list[str]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_cut:
            raise httpx.ConnectError("cut")
        self.asked.append(request.url.path)
        return await self._inner.handle_async_request(request)


class Clock:
    """The time of the client's breaker and memory."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(scope="module")
async def neighbour(
    servers: LocalServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Shop, Cable]]:
    """The other service, with a product that was there before inventory was."""
    settings = settings_for(servers, tmp_path_factory.mktemp("products"), app_modules=("products",))
    container = build_container(settings, "api")
    container.products.subscribers.override(())
    app = create_app(container)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://products.test") as client,
    ):
        await migrate(container)
        service = Shop(client, container=container, settings=settings)
        await service.product(name="Old")
        yield service, Cable(app)


@pytest.fixture
def products(neighbour: tuple[Shop, Cable]) -> Shop:
    return neighbour[0]


@pytest.fixture
def cable(neighbour: tuple[Shop, Cable]) -> Cable:
    return neighbour[1]


@asynccontextmanager
async def inventory(products: Shop, cable: Cable, folder: Path) -> AsyncIterator[Shop]:
    settings = products.settings.model_copy(
        update={
            "app_modules": ("inventory",),
            "data_dir": folder,
            "products_url": "http://products.test",
            "products_api_key": SecretStr(API_KEY),
        }
    )
    container = built(settings)
    catalog = HttpProductCatalog("http://products.test", [API_KEY], clock=CLOCK, transport=cable)
    container.inventory.catalog.override(catalog)
    app = create_app(container)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://inventory.test") as client,
    ):
        await migrate(container)
        yield Shop(client, container=container, settings=settings)


@pytest.fixture(scope="module")
async def shop(neighbour: tuple[Shop, Cable], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with inventory(*neighbour, tmp_path_factory.mktemp("inventory")) as service:
        yield service
        await drop(service.container)


@pytest.fixture(autouse=True)
async def _mended(shop: Shop, cable: Cable) -> None:
    await mend(shop, cable)


async def mend(shop: Shop, cable: Cable) -> None:
    """Connected, and long enough for a first call to show it."""
    cable.is_cut = False
    CLOCK.now += 60
    assert await shop.container.inventory.catalog().get("prd_nothing") is None


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def age(product_id: str) -> None:
    """Its copy was confirmed long ago."""
    past = {"as_of": utc_now() - timedelta(hours=1)}
    await SnapshotRecord.get_pymongo_collection().update_one({"_id": product_id}, {"$set": past})


async def test_products_of_before_are_copied_at_the_first_start(shop: Shop) -> None:
    async def is_listed() -> bool:
        listed = (await shop.get("/inventory")).json()["items"]
        return "Old" in [item["product"]["name"] for item in listed]

    await until(is_listed)


async def test_an_unknown_product_is_asked_for_once_and_then_known(shop: Shop, products: Shop, cable: Cable) -> None:
    product = await products.product(name="New", price={"amount": "0.10", "currency": "EUR"})
    assert (await shop.stock(product))["product"]["price"] == {"amount": "0.10", "currency": "EUR"}
    cable.asked.clear()
    await shop.stock(product)
    assert f"/products/{product}" not in cable.asked
    problem(await shop.get(f"/inventory/{new_id('prd')}"), 404, "product_not_found")


async def test_an_unknown_product_is_never_accepted_on_faith(shop: Shop, products: Shop, cable: Cable) -> None:
    product = await products.product()
    cable.is_cut = True
    key = {"Idempotency-Key": new_id("key")}
    path = f"/inventory/{product}/movements"
    for call in (
        shop.get(f"/inventory/{product}"),
        shop.post(path, json={"kind": "receive", "quantity": 1}, headers=key),
        shop.put(f"/inventory/{product}/threshold", json={"threshold": 1}),
        shop.post("/inventory/reservations", json={"lines": [{"product_id": product, "quantity": 1}]}),
    ):
        started = time.monotonic()
        answer = await call
        problem(answer, 503, "catalog_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert time.monotonic() - started < WITHIN_S
    await mend(shop, cable)
    # The refusal had no effect, so its key is free for another body.
    answer = await shop.post(path, json={"kind": "receive", "quantity": 2}, headers=key)
    assert (answer.status_code, answer.json()["on_hand_after"]) == (201, 2)


async def test_a_known_product_is_served_and_sold_while_products_is_away(
    shop: Shop, products: Shop, cable: Cable
) -> None:
    product = await products.product(name="Known")
    await shop.move(product, "receive", 10)
    before = await shop.get(f"/inventory/{product}")
    cable.is_cut = True
    assert (await shop.move(product, "receive", 1))["on_hand_after"] == 11  # it asked, and then knew that it is away
    answer = await shop.get(f"/inventory/{product}")
    told = answer.json()["product"]
    assert (answer.status_code, told["stale"], told["name"]) == (200, True, "Known")
    assert told["as_of"] == before.json()["product"]["as_of"]
    assert answer.headers["etag"].endswith('s"')
    made = await shop.reserve({product: 2})
    assert (await shop.end(made["reservation_id"], "commit"))["status"] == "committed"
    assert (await shop.move(product, "issue", 1))["on_hand_after"] == 8


async def test_whether_products_lives_is_heard_without_a_question(shop: Shop, products: Shop, cable: Cable) -> None:
    product = await products.product()
    await shop.stock(product)

    async def is_stale() -> bool:
        return bool((await shop.stock(product))["product"]["stale"])

    async def is_fresh() -> bool:
        return not await is_stale()

    cable.is_cut = True
    await until(is_stale)
    cable.is_cut = False
    await until(is_fresh)


async def test_an_archive_counts_at_once_without_an_event(shop: Shop, products: Shop) -> None:
    product = await products.product()
    await shop.move(product, "receive", 5)
    assert (await products.call("DELETE", f"/products/{product}")).status_code == 204
    assert await shop.move(product, "receive", 5) == "product_archived"
    assert await shop.reserve({product: 1}) == "product_archived"
    assert (await shop.stock(product))["product"]["status"] == "archived"


async def test_an_old_copy_is_answered_with_and_refreshed_for_the_next(shop: Shop, products: Shop) -> None:
    product = await products.product(name="First")
    await shop.stock(product)
    changed = await products.call(
        "PATCH", f"/products/{product}", json={"name": "Second"}, headers={"If-Match": '"v1"'}
    )
    assert changed.status_code == 200, changed.text
    assert (await shop.stock(product))["product"]["name"] == "First"  # young enough
    await age(product)
    assert (await shop.stock(product))["product"]["name"] == "First"  # nobody waits

    async def is_refreshed() -> bool:
        return bool((await shop.stock(product))["product"]["name"] == "Second")

    await until(is_refreshed)


async def test_a_copy_that_is_right_is_confirmed(shop: Shop, products: Shop) -> None:
    product = await products.product()
    await shop.stock(product)
    await age(product)
    old = (await shop.stock(product))["product"]["as_of"]

    async def is_confirmed() -> bool:
        return bool((await shop.stock(product))["product"]["as_of"] > old)

    await until(is_confirmed)


async def test_readiness_tells_of_products_and_stays_ready_enough(shop: Shop, cable: Cable) -> None:
    ready = await shop.http.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["products"]["status"]) == (200, "ok"), ready.text
    cable.is_cut = True
    away = await shop.http.get("/health/ready")
    assert (away.status_code, away.json()["status"]) == (200, "degraded")
    assert away.json()["checks"]["products"]["status"] == "failed"


async def test_an_event_that_is_late_or_repeated_brings_nothing_back(shop: Shop, products: Shop) -> None:
    product = await products.product(name="First")
    created = await products.get(f"/products/{product}")
    await products.call("PATCH", f"/products/{product}", json={"name": "Second"}, headers={"If-Match": '"v1"'})

    def event(answer: httpx.Response) -> OutboxEvent:
        data = answer.json()
        return OutboxEvent(
            event_id="evt_1", seq=data["version"], type="product.updated", at=utc_now(), owner_id="x", data=data
        )

    subscriber = shop.container.inventory.subscriber()
    newer = await products.get(f"/products/{product}")
    for answer in (created, newer, newer, created):
        await subscriber.handle(event(answer))
    assert (await shop.stock(product))["product"]["name"] == "Second"
