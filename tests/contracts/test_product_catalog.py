"""The port of inventory to products: in the process, over HTTP without a network, and against a real server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from dependency_injector import providers
from pydantic import SecretStr

from app.container import Container, build_container
from app.inventory.adapter.catalog_http import HttpProductCatalog
from app.inventory.adapter.catalog_local import LocalProductCatalog
from app.inventory.domain.errors import CatalogRefused, CatalogUnavailable
from app.inventory.domain.ports import ProductCatalog
from app.products.contracts import Price, ProductView
from app.runtime import migrate
from app.server import create_app
from core.config import Settings
from core.errors import Unavailable
from core.http.problems import problem_response
from core.paging import Page, Position
from core.security.ratelimit import Limiter, MemoryBuckets
from tests.api.conftest import NoRedis, RecordedWakeUps
from tests.clients import API_KEY
from tests.mongomock_client import MockClient

SECRET = "words-of-the-upstream"
WITHIN_S = 3.5
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def products(tmp_path: Path, signing_key: Path) -> Container:
    """The products module alone, as a service of its own would have it."""
    settings = Settings(
        app_env="test", app_modules=("products",), data_dir=tmp_path, mongo_url=SecretStr("mongodb://nowhere.invalid"),
        redis_url=SecretStr("redis://nowhere.invalid"), jwt_private_keys=(str(signing_key),),
        api_key=SecretStr(API_KEY), cache_ttl_seconds=0,
    )  # fmt: skip
    container = build_container(settings, "api")
    container.mongo.override(providers.Singleton(MockClient))
    container.redis.override(providers.Singleton(NoRedis))
    container.limiter.override(providers.Singleton(Limiter, MemoryBuckets(), MemoryBuckets(), b"secret"))
    container.wake_ups.override(providers.Singleton(RecordedWakeUps))
    container.products.subscribers.override(())
    await migrate(container)
    return container


@pytest.fixture(params=["local", "asgi", "server"])
async def catalog(request: pytest.FixtureRequest, products: Container) -> AsyncIterator[ProductCatalog]:
    app = create_app(products)
    if request.param == "local":
        async with app.router.lifespan_context(app):
            yield LocalProductCatalog(products.products.service())
    elif request.param == "asgi":
        async with app.router.lifespan_context(app):
            found = HttpProductCatalog("http://products.test", [API_KEY], transport=httpx.ASGITransport(app))
            yield found
            await found.close()
    else:
        async with served(app) as url:
            found = HttpProductCatalog(url, [API_KEY])
            yield found
            await found.close()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """By a real server on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


async def product(products: Container, **fields: Any) -> str:
    made = {"sku": f"sku-{time.monotonic_ns()}", "name": "Hammer", **fields}
    return str((await products.products.service().create("test", made)).id)


async def test_a_product_is_found_as_it_is(catalog: ProductCatalog, products: Container) -> None:
    price = Price(amount=Decimal("12.50"), currency="EUR")
    product_id = await product(products, sku="AB-1", name="Hammer", price=price)
    view = await catalog.get(product_id)
    wanted = ProductView(product_id=product_id, sku="AB-1", name="Hammer", price=price, status="active", version=1)
    assert view == wanted
    assert type(view) is ProductView


async def test_an_archived_product_is_found(catalog: ProductCatalog, products: Container) -> None:
    product_id = await product(products)
    await products.products.service().archive("test", product_id, lambda _: None)
    view = await catalog.get(product_id)
    assert view is not None
    assert (view.status, view.version) == ("archived", 2)


async def test_what_is_not_there_is_none(catalog: ProductCatalog) -> None:
    assert await catalog.get("prd_" + "0" * 26) is None


@pytest.mark.parametrize("name", ["Schraube ½ ★", "日本語", "مطرقة", '🔨 \u2028 \\u0041 "quoted"', "<script>"])
async def test_every_character_arrives(catalog: ProductCatalog, products: Container, name: str) -> None:
    view = await catalog.get(await product(products, name=name))
    assert view is not None
    assert view.name == name


@pytest.mark.parametrize(
    ("amount", "currency"), [("0.10", "EUR"), ("999999999999999.99", "EUR"), ("1000", "JPY"), ("0.123", "KWD")]
)
async def test_amounts_stay_exact(catalog: ProductCatalog, products: Container, amount: str, currency: str) -> None:
    view = await catalog.get(await product(products, price=Price(amount=Decimal(amount), currency=currency)))
    assert view is not None
    assert view.price is not None
    assert (str(view.price.amount), view.price.currency) == (amount, currency)


async def test_a_copy_is_confirmed_or_replaced(catalog: ProductCatalog, products: Container) -> None:
    product_id = await product(products)
    known = await catalog.get(product_id)
    assert await catalog.get(product_id, known=known) == known
    await products.products.service().change("test", product_id, {"name": "Anvil"}, lambda _: None)
    newer = await catalog.get(product_id, known=known, quick=True)
    assert newer is not None
    assert (newer.name, newer.version) == ("Anvil", 2)


async def test_a_walk_meets_every_product_once(catalog: ProductCatalog, products: Container) -> None:
    made = [await product(products) for _ in range(25)]
    met = [view.product_id async for view in catalog.walk()]
    assert sorted(met) == sorted(made)


async def test_a_walk_through_nothing_meets_nobody(catalog: ProductCatalog) -> None:
    assert [view async for view in catalog.walk()] == []


class Away:
    """Products whose database cannot be reached."""

    async def find_view(self, product_id: str) -> ProductView | None:
        raise Unavailable

    async def list_views(self, after: Position | None, limit: int) -> Page[ProductView]:
        raise Unavailable


@pytest.mark.parametrize("catalog_that_is_away", ["local", "http"])
async def test_what_is_away_is_unavailable_and_nothing_else(catalog_that_is_away: str) -> None:
    away: ProductCatalog = (
        LocalProductCatalog(Away())
        if catalog_that_is_away == "local"
        else HttpProductCatalog("http://127.0.0.1:1", ["key"])
    )
    with pytest.raises(CatalogUnavailable):
        await away.get("prd_1")
    with pytest.raises(CatalogUnavailable):
        _ = [view async for view in away.walk()]
    await away.close()


async def test_a_wrong_key_is_a_refusal_and_never_our_own(products: Container) -> None:
    async with served(create_app(products)) as url:
        refused = HttpProductCatalog(url, ["wrong", "wrong too"])
        with pytest.raises(CatalogRefused) as error:
            await refused.get("prd_1")
        await refused.close()
    assert problem_response(error.value).status_code == 502


def answering(raw: bytes) -> Serve:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return serve


def http(status: int, body: bytes = SECRET.encode(), kind: str = "application/json", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {SECRET}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(http(200, b" " * 1000)[:-1000])
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.2)


async def dripping_headers(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X-A: b\r\n")
        await asyncio.sleep(0.2)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


UNAVAILABLE: dict[str, Serve] = {
    "slow": silent,
    "dripping": dripping,
    "dripping headers": dripping_headers,
    "reset": reset,
    "500": answering(http(500)),
    "503": answering(http(503)),
    "429": answering(http(429, SECRET.encode(), "application/json", "Retry-After: 60")),
    "cut off": answering(http(200, SECRET.encode())[:-5]),
    "not HTTP": answering(SECRET.encode() + b"\r\n\r\n"),
}
REFUSED: dict[str, Serve] = {
    "302": answering(http(302, SECRET.encode(), "text/html", "Location: /elsewhere")),
    "401": answering(http(401)),
    "truncated JSON": answering(http(200, b'{"name": "' + SECRET.encode())),
    "wrong type": answering(http(200, SECRET.encode(), "text/html")),
    "other JSON": answering(http(200, b'{"name": "' + SECRET.encode() + b'"}')),
    "10 MB": answering(http(200, SECRET.encode() * 500_000)),
    "other 404": answering(http(404, SECRET.encode(), "text/html")),
}


@asynccontextmanager
async def faulty(serve: Serve) -> AsyncIterator[HttpProductCatalog]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    products = HttpProductCatalog(f"http://127.0.0.1:{port}", ["key"])
    try:
        yield products
    finally:
        await products.close()
        server.close()


@pytest.mark.parametrize("fault", [*UNAVAILABLE, *REFUSED])
async def test_each_fault_ends_soon_and_shows_nothing_of_the_upstream(
    fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with faulty((UNAVAILABLE | REFUSED)[fault]) as products:
        started = time.monotonic()
        with pytest.raises(CatalogUnavailable if fault in UNAVAILABLE else CatalogRefused) as error:
            await products.get("prd_1")
        assert time.monotonic() - started < WITHIN_S
        assert products.is_down
    answer = problem_response(error.value)
    assert (answer.status_code, answer.headers.get("retry-after")) == (
        (503, "5") if fault in UNAVAILABLE else (502, None)
    )
    assert SECRET.encode() not in bytes(answer.body)
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize("fault", ["slow", "dripping", "reset"])
async def test_a_quick_question_waits_a_moment_only(fault: str) -> None:
    known = ProductView(product_id="prd_1", sku="A", name="A", price=None, status="active", version=1)
    async with faulty(UNAVAILABLE[fault]) as products:
        started = time.monotonic()
        with pytest.raises(CatalogUnavailable):
            await products.get("prd_1", known=known, quick=True)
        assert time.monotonic() - started < 1
