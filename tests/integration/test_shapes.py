"""One code base, two shapes: the same tests on one process, and on products, inventory and the rest apart."""

import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.ids import random_token
from core.local.stack import LocalServers
from tests.clients import API_KEY, problem
from tests.integration.faults.process import until
from tests.integration.running import Running, free_port
from tests.integration.webhooks.receiver import Receiver

EFFECT_S = 30  # from a change to its last effect elsewhere, on a busy machine
SERVICES = {"products": "products", "inventory": "inventory", "rest": "users,folders,documents,scans,webhooks"}


@dataclass
class Shape:
    """Where each module is called, whatever process it runs in."""

    parts: dict[str, Running]
    http: httpx.AsyncClient
    receiver: Receiver

    @property
    def is_split(self) -> bool:
        return len(self.parts) > 1

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        part = self.parts.get(path.split("/")[1]) or self.parts["rest"]
        headers = {"X-API-Key": API_KEY} | options.pop("headers", {})
        return await self.http.request(method, part.base + path, headers=headers, **options)

    async def product(self, **fields: Any) -> Any:
        body = {"sku": random_token(), "name": "Hammer", "price": {"amount": "12.50", "currency": "EUR"}, **fields}
        answer = await self.call("POST", "/products", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def stock(self, product_id: str) -> Any:
        answer = await self.call("GET", f"/inventory/{product_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def move(self, product_id: str, kind: str, quantity: int) -> httpx.Response:
        body = {"kind": kind, "quantity": quantity}
        return await self.call("POST", f"/inventory/{product_id}/movements", json=body)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        await until(condition, EFFECT_S, what, patience=1)


@pytest.fixture(scope="module", params=["one process", "services"])
async def shape(
    request: pytest.FixtureRequest, servers: LocalServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shape]:
    folder: Path = tmp_path_factory.mktemp("shape")
    modules = SERVICES if request.param == "services" else {"rest": "all"}
    ports = {name: free_port() for name in modules}
    async with Receiver().listening() as receiver, httpx.AsyncClient(timeout=30) as http:
        settings = {
            "MONGO_URL": servers.mongo_url,
            "MONGO_DB": f"s{random_token(48)}",
            "REDIS_URL": servers.redis_url,
            "STORAGE_BACKEND": "local",
            "API_KEY": API_KEY,
            "EGRESS_ALLOWED_ORIGINS": receiver.origin,
            "RECONCILE_INTERVAL_SECONDS": "1",
            "RATE_LIMIT_PER_MINUTE": "0",
        }
        of_part = {name: dict(settings) for name in modules}
        if "inventory" in modules:
            of_part["inventory"] |= {
                "PRODUCTS_URL": f"http://127.0.0.1:{ports['products']}", "PRODUCTS_API_KEY": API_KEY,
            }  # fmt: skip
        parts = {
            name: Running(folder / name, ports[name], modules=names, **of_part[name]) for name, names in modules.items()
        }
        with ThreadPoolExecutor(len(parts)) as threads:
            list(threads.map(Running.start, parts.values()))
        try:
            yield Shape(parts, http, receiver)
        finally:
            with ThreadPoolExecutor(len(parts)) as threads:
                list(threads.map(Running.stop, [part for part in parts.values() if part.process.poll() is None]))


async def test_each_part_has_its_own_pages_and_nothing_of_the_others(shape: Shape) -> None:
    for part in shape.parts.values():
        assert (await shape.http.get(f"{part.base}/docs")).status_code == 200
        assert (await shape.http.get(f"{part.base}/health")).json() == {"status": "ok"}
    if shape.is_split:
        served = (await shape.http.get(f"{shape.parts['products'].base}/openapi.json")).json()["paths"]
        assert any(path.startswith("/products") for path in served)
        assert not any(path.startswith(("/inventory", "/documents", "/auth")) for path in served)


async def test_stock_is_kept_for_a_product(shape: Shape) -> None:
    product_id = (await shape.product())["product_id"]
    assert (await shape.stock(product_id))["on_hand"] == 0
    moved = await shape.move(product_id, "receive", 10)
    assert (moved.status_code, moved.json()["on_hand_after"]) == (201, 10)
    body = {"lines": [{"product_id": product_id, "quantity": 4}]}
    reserved = await shape.call("POST", "/inventory/reservations", json=body)
    assert reserved.status_code == 201, reserved.text
    done = await shape.call("POST", f"/inventory/reservations/{reserved.json()['reservation_id']}/commit")
    assert done.json()["status"] == "committed"
    stock = await shape.stock(product_id)
    assert (stock["on_hand"], stock["reserved"], stock["available"]) == (6, 0, 6)
    assert stock["product"]["name"] == "Hammer"
    assert stock["product"]["price"] == {"amount": "12.50", "currency": "EUR"}
    problem(await shape.move(product_id, "issue", 7), 409, "insufficient_stock")


async def test_what_products_does_not_know_has_no_stock(shape: Shape) -> None:
    unknown = f"prd_{'0' * 26}"
    problem(await shape.call("GET", f"/inventory/{unknown}"), 404, "product_not_found")
    problem(await shape.move(unknown, "receive", 1), 404, "product_not_found")


async def test_a_new_name_reaches_stock(shape: Shape) -> None:
    product = await shape.product()
    await shape.stock(product["product_id"])
    renamed = {"name": "Sledgehammer"}
    answer = await shape.call(
        "PATCH", f"/products/{product['product_id']}", json=renamed, headers={"If-Match": f'"v{product["version"]}"'}
    )
    assert answer.status_code == 200, answer.text

    async def arrived() -> bool:
        return bool((await shape.stock(product["product_id"]))["product"]["name"] == "Sledgehammer")

    await shape.until(arrived, "stock shows the new name")


async def test_an_archived_product_takes_nothing_in_at_once(shape: Shape) -> None:
    product_id = (await shape.product())["product_id"]
    assert (await shape.move(product_id, "receive", 5)).status_code == 201
    assert (await shape.call("DELETE", f"/products/{product_id}")).status_code == 204
    problem(await shape.move(product_id, "receive", 5), 409, "product_archived")
    assert (await shape.move(product_id, "issue", 1)).status_code == 201


async def test_webhooks_tell_of_products_and_stock(shape: Shape) -> None:
    url = shape.receiver.behaves("/shop")
    wanted = {"url": url, "events": ["product.created", "stock.changed", "stock.low"]}
    hook = (await shape.call("POST", "/webhooks", json=wanted)).json()
    product_id = (await shape.product())["product_id"]
    await shape.move(product_id, "receive", 3)
    await shape.call("PUT", f"/inventory/{product_id}/threshold", json={"threshold": 3})

    def told() -> set[str]:
        mine = [call for call in shape.receiver.seen("/shop") if product_id.encode() in call.body]
        assert all(call.is_signed_with(hook["secret"]) for call in mine)
        return {json.loads(call.body)["type"] for call in mine}

    await shape.until(lambda: told() == set(wanted["events"]), "all three events arrive")


async def test_products_may_be_away(shape: Shape) -> None:
    """Last, since products is stopped: what stock knows is served, what it does not know is refused soon."""
    if not shape.is_split:
        assert (await shape.stock((await shape.product())["product_id"]))["product"]["stale"] is False
        return
    known = (await shape.product())["product_id"]
    assert (await shape.move(known, "receive", 5)).status_code == 201

    async def copied() -> bool:
        return bool((await shape.stock(known))["product"]["stale"] is False)

    await shape.until(copied, "stock has a copy")
    shape.parts["products"].stop()

    async def is_stale() -> bool:
        return bool((await shape.stock(known))["product"]["stale"] is True)

    await shape.until(is_stale, "the copy is marked stale")
    assert (await shape.move(known, "receive", 1)).status_code == 201
    assert (await shape.move(known, "issue", 1)).status_code == 201
    nobody = f"prd_{'1' * 26}"
    started = time.monotonic()
    problem(await shape.call("GET", f"/inventory/{nobody}"), 503, "catalog_unavailable")
    assert time.monotonic() - started < 3.5
    ready = await shape.http.get(f"{shape.parts['inventory'].base}/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"]["products"]["status"] != "ok"
    shape.parts["products"].start()
    await shape.until(copied, "products is back")
