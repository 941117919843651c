"""The client of products: what it sends, what it repeats, and what it believes."""

import asyncio
from typing import Any

import httpx
import pytest

from app.inventory.adapter import catalog_http
from app.inventory.adapter.catalog_http import HttpProductCatalog
from app.inventory.domain.errors import CatalogRefused, CatalogUnavailable
from app.products.contracts import ProductView
from core.tracing import begin

PRODUCT = {
    "product_id": "prd_1", "sku": "A", "name": "Hammer", "tags": [], "status": "active", "version": 3,
    "price": {"amount": "12.50", "currency": "EUR"}, "created_at": "2026-01-31T10:00:00Z",
}  # fmt: skip
MISSING = {"code": "product_not_found"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Upstream:
    """Answers in turn, the last answer for ever; keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), list[httpx.Request]()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return unread(answer)


def catalog(upstream: Upstream, clock: Clock | None = None, *keys: str) -> HttpProductCatalog:
    transport = httpx.MockTransport(upstream)
    return HttpProductCatalog(
        "http://products.test/base", keys or ("key",), clock=clock or Clock(), transport=transport
    )


def unread(answer: httpx.Response) -> httpx.Response:
    """As it comes from the network."""
    return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))


def found(**fields: Any) -> httpx.Response:
    return httpx.Response(200, json=PRODUCT | fields)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_http, "PAUSE_S", (0.0, 0.0))


async def test_it_says_who_asks_and_nothing_of_the_person() -> None:
    upstream = Upstream(found())
    begin("req-of-a-test")
    view = await catalog(upstream).get("prd_1")
    assert view is not None
    assert str(view.price.amount if view.price else "") == "12.50"
    (asked,) = upstream.asked
    assert str(asked.url) == "http://products.test/base/products/prd_1"
    assert asked.headers["x-api-key"] == "key"
    assert asked.headers["x-request-id"] == "req-of-a-test"
    assert asked.headers["accept-encoding"] == "identity"
    assert "authorization" not in asked.headers


async def test_a_copy_is_confirmed_without_a_body() -> None:
    upstream = Upstream(httpx.Response(304))
    known = ProductView.model_validate(PRODUCT)
    assert await catalog(upstream).get("prd_1", known=known) is known
    assert upstream.asked[0].headers["if-none-match"] == '"v3"'


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.Response(502), httpx.Response(503),
                httpx.Response(504), httpx.Response(429, headers={"Retry-After": "0"})],
)  # fmt: skip
async def test_what_a_repeat_may_cure_is_repeated_twice(trouble: Any) -> None:
    upstream = Upstream(trouble, trouble, found())
    assert await catalog(upstream).get("prd_1") is not None
    upstream = Upstream(trouble)
    with pytest.raises(CatalogUnavailable):
        await catalog(upstream).get("prd_1")
    assert len(upstream.asked) == 3


@pytest.mark.parametrize(
    "trouble", [httpx.Response(500), httpx.Response(429), httpx.Response(429, headers={"Retry-After": "60"})]
)
async def test_what_a_repeat_does_not_cure_is_asked_once(trouble: httpx.Response) -> None:
    upstream = Upstream(trouble)
    with pytest.raises(CatalogUnavailable):
        await catalog(upstream).get("prd_1")
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401), httpx.Response(403), httpx.Response(302, headers={"Location": "/products/prd_2"}),
        httpx.Response(400), httpx.Response(204), httpx.Response(304), httpx.Response(404, json={"code": "not_found"}),
        httpx.Response(404, html="<h1>nothing here</h1>"), httpx.Response(200, text="{}"),
        httpx.Response(200, json=[]), httpx.Response(200, json=PRODUCT | {"product_id": "prd_2"}),
        httpx.Response(200, json=PRODUCT | {"version": 2**63}), httpx.Response(200, json=PRODUCT | {"version": 0}),
        httpx.Response(200, json=PRODUCT | {"price": {"amount": "NaN", "currency": "EUR"}}),
        httpx.Response(200, json=PRODUCT | {"status": "gone"}),
        httpx.Response(200, content=b'{"product_id":', headers={"Content-Type": "application/json"}),
        httpx.Response(200, json=PRODUCT | {"name": "x" * 300_000}),
        httpx.Response(200, json=PRODUCT, headers={"Content-Encoding": "identity"}),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_refused_and_asked_once(answer: httpx.Response) -> None:
    upstream = Upstream(answer)
    products = catalog(upstream)
    with pytest.raises(CatalogRefused):
        await products.get("prd_1")
    assert len(upstream.asked) == 1
    assert products.is_down


async def test_repeats_have_a_budget() -> None:
    upstream = Upstream(httpx.Response(503))
    products = catalog(upstream)
    products._breaker._failure = ZeroDivisionError  # it would open first
    for _ in range(20):
        with pytest.raises(CatalogUnavailable):
            await products.get("prd_1")
    assert len(upstream.asked) <= 20 + 10 + 2


async def test_an_open_breaker_asks_nothing_until_its_pause_is_over() -> None:
    clock, upstream = Clock(), Upstream(httpx.Response(500))
    products = catalog(upstream, clock)
    for _ in range(7):
        with pytest.raises(CatalogUnavailable):
            await products.get("prd_1")
    assert len(upstream.asked) == 5
    assert products.is_down
    upstream.answers[:] = [found()]
    clock.now = 5
    assert await products.get("prd_1") is not None
    assert not products.is_down


async def test_those_who_ask_at_the_same_time_share_one_call() -> None:
    upstream = Upstream(found())
    products = catalog(upstream)
    views = await asyncio.gather(*(products.get("prd_1") for _ in range(50)))
    assert len(upstream.asked) == 1
    assert {view and view.version for view in views} == {3}


async def test_one_who_gives_up_takes_the_answer_from_nobody() -> None:
    upstream = Upstream(found())
    products = catalog(upstream)
    first, second = (asyncio.create_task(products.get("prd_1")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None


async def test_what_is_missing_is_not_asked_for_again_at_once() -> None:
    clock, upstream = Clock(), Upstream(httpx.Response(404, json=MISSING), found())
    products = catalog(upstream, clock)
    assert [await products.get("prd_1") for _ in range(3)] == [None] * 3
    assert len(upstream.asked) == 1
    assert not products.is_down
    clock.now = 30
    assert await products.get("prd_1") is not None


async def test_the_memory_of_what_is_missing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_http, "MOST_MISSING", 3)
    products = catalog(Upstream(httpx.Response(404, json=MISSING)))
    for number in range(10):
        await products.get(f"prd_{number}")
    assert list(products._missing) == ["prd_7", "prd_8", "prd_9"]


async def test_the_next_key_is_tried_once_and_then_kept() -> None:
    class Rotated(Upstream):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            return unread(found()) if request.headers["x-api-key"] == "next" else httpx.Response(401)

    upstream = Rotated()
    products = catalog(upstream, None, "current", "next")
    assert await products.get("prd_1") is not None
    assert await products.get("prd_1") is not None
    assert [request.headers["x-api-key"] for request in upstream.asked] == ["current", "next", "next"]


async def test_a_page_of_something_else_ends_a_walk() -> None:
    with pytest.raises(CatalogRefused):
        _ = [view async for view in catalog(Upstream(found())).walk()]


async def test_a_heartbeat_says_whether_it_lives() -> None:
    upstream = Upstream(httpx.Response(200, json={"status": "ok"}))
    products = catalog(upstream)
    await products.ping()
    assert not products.is_down
    for dead in (httpx.ConnectError("x"), httpx.Response(503), httpx.Response(200, text="hello")):
        upstream.answers[:] = [dead]
        with pytest.raises(CatalogUnavailable):
            await products.ping()
        assert products.is_down
    upstream.answers[:] = [httpx.Response(200, json={"status": "ok"})]
    await products.ping()
    assert not products.is_down
    assert upstream.asked[0].url.path == "/base/health"
