"""Products and inventory in this process, on real MongoDB: transactions and its clock are what is tested."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest
from pydantic import SecretStr

from app.container import Container, build_container
from app.inventory.adapter.mongo import LevelRecord, MovementRecord, StockOutboxRecord
from app.inventory.adapter.verifying import differences
from app.inventory.application.reserving import ReservationService
from app.inventory.application.stocks import StockService
from app.inventory.domain.stock import Command
from app.runtime import migrate
from app.server import create_app
from core.config import Settings
from core.ids import new_id, random_token
from core.local.stack import LocalServers
from tests.clients import API_KEY, Service


@dataclass
class Shop(Service):
    """A service at the API, and what its stock looks like inside."""

    container: Any = None
    settings: Any = None
    loop: Any = None

    @property
    def stocks(self) -> StockService:
        service: StockService = self.container.inventory.stock_service()
        return service

    @property
    def reserving(self) -> ReservationService:
        service: ReservationService = self.container.inventory.reservation_service()
        return service

    async def put(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("PUT", path, **options)

    async def product(self, stock: int = 0, **fields: Any) -> str:
        """The id of a new one, with so much received."""
        body = {"sku": random_token(), "name": "Hammer", **fields}
        answer = await self.post("/products", json=body)
        assert answer.status_code == 201, answer.text
        product_id: str = answer.json()["product_id"]
        if stock:
            await self.move(product_id, "receive", stock)
        return product_id

    async def move(self, product_id: str, kind: str, quantity: int, key: str | None = None, **more: Any) -> Any:
        """The movement, or the code of the refusal."""
        headers = {"Idempotency-Key": key} if key else {}
        body = {"kind": kind, "quantity": quantity, **more}
        return result(await self.post(f"/inventory/{product_id}/movements", json=body, headers=headers), 201)

    async def reserve(self, lines: dict[str, int], key: str | None = None, **more: Any) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        body = {"lines": [{"product_id": name, "quantity": number} for name, number in lines.items()], **more}
        return result(await self.post("/inventory/reservations", json=body, headers=headers), 201)

    async def end(self, reservation_id: str, how: str) -> Any:
        return result(await self.post(f"/inventory/reservations/{reservation_id}/{how}"), 200)

    async def stock(self, product_id: str) -> Any:
        return result(await self.get(f"/inventory/{product_id}"), 200)

    async def counts(self, product_id: str) -> tuple[int, int, int]:
        stock = await self.stock(product_id)
        return stock["on_hand"], stock["reserved"], stock["available"]

    async def wrong(self) -> list[Any]:
        """What `verify` finds."""
        return [difference async for difference in differences() if difference is not None]

    async def events(self, *product_ids: str) -> list[dict[str, Any]]:
        """Nobody listens, so all of them are there still, oldest first."""
        rows = await StockOutboxRecord.get_pymongo_collection().find().to_list()
        events = [event for row in rows for event in row["outbox"] if event["data"]["product_id"] in product_ids]
        return sorted(events, key=lambda event: event["event_id"])

    async def movements(self, product_id: str) -> list[dict[str, Any]]:
        query = {"level_id": product_id}
        found: list[dict[str, Any]] = await MovementRecord.get_pymongo_collection().find(query).sort("seq").to_list()
        return found


def result(answer: httpx.Response, wanted: int) -> Any:
    body = answer.json()
    return body if answer.status_code == wanted else body["code"]


def command(**more: Any) -> Command:
    return Command(id=new_id("cmd"), actor="service:test", request_id="", **more)


def settings_for(servers: LocalServers, folder: Path, **more: Any) -> Settings:
    fields: dict[str, Any] = {
        "app_env": "test",
        "app_modules": ("products", "inventory"),
        "data_dir": folder,
        "mongo_url": SecretStr(servers.mongo_url),
        "mongo_db": f"i{random_token(48)}",
        "redis_url": SecretStr(servers.redis_url),
        "api_key": SecretStr(API_KEY),
        "rate_limit_per_minute": 0,
        "cache_ttl_seconds": 0,
    }
    return Settings(**fields | more)


def built(settings: Settings) -> Container:
    """With a subscriber of products' events, and none of inventory's."""
    container = build_container(settings, "api")
    container.products.subscribers.override((container.inventory.subscriber(),))
    container.inventory.subscribers.override(())
    return container


async def drop(container: Container) -> None:
    client = LevelRecord.get_pymongo_collection().database.client
    prefix = container.settings().mongo_db
    with pymongo.timeout(60):  # a busy machine takes its time
        await asyncio.gather(*(client.drop_database(f"{prefix}_{module}") for module in ("products", "inventory")))


@pytest.fixture(scope="module")
async def shop(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    settings = settings_for(servers, tmp_path_factory.mktemp("shop"))
    container = built(settings)
    app = create_app(container)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://dossier.test") as client,
    ):
        await migrate(container)
        yield Shop(client, container=container, settings=settings, loop=asyncio.get_running_loop())
        await drop(container)
