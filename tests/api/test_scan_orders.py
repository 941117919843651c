"""One suite for both ways to the scan service, in this process and over HTTP; then what only HTTP can do wrong."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from app.container import Container
from app.folders.adapter import scan_orders
from app.folders.adapter.scan_orders import HttpScanOrders, LocalScanOrders
from app.folders.domain.errors import ScanRefused
from app.folders.domain.ports import ScanOrders
from app.scans.contracts import ScanFolder, ScanOrder
from app.server import create_app
from core.clock import utc_now
from core.config import Settings
from core.errors import Unavailable
from core.security.signing import signing_key, verify
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET

KEY = signing_key(SIGNING_SECRET)
ORDER = ScanOrder(
    user_id="usr_1", folders=(ScanFolder(folder_id="fld_1", source="s3://dossier/in/"),), correlation_id="syn_1"
)
URL = "http://scans.test"


@pytest.fixture(params=["local", "http"])
async def orders(request: pytest.FixtureRequest, http: httpx.AsyncClient, container: Container) -> ScanOrders:
    """`http` holds the lifespan open."""
    if request.param == "local":
        return LocalScanOrders(container.scans.service)
    transport = httpx.ASGITransport(create_app(container))
    return HttpScanOrders(URL, ["withdrawn", PRIVATE_TOKEN], [KEY], utc_now, transport)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"scan_callbacks": {"default": "https://host.example.com/callbacks/scans"}})


async def test_a_scan_is_ordered_once_per_command_and_followed(orders: ScanOrders) -> None:
    scan_id = await orders.order(ORDER, "syn_00000000000000000000000001")
    assert await orders.order(ORDER, "syn_00000000000000000000000001") == scan_id
    assert await orders.order(ORDER, "syn_00000000000000000000000002") != scan_id
    assert await orders.status(scan_id) == "PENDING"


async def test_a_refusal_is_final_and_has_a_code(orders: ScanOrders) -> None:
    elsewhere = ScanOrder(user_id="usr_1", folders=(ScanFolder(folder_id="f", source="s3://other/"),))
    unknown = ORDER.model_copy(update={"callback": "unknown"})
    for order, code in ((elsewhere, "source_not_allowed"), (unknown, "callback_not_registered")):
        with pytest.raises(ScanRefused) as refused:
            await orders.order(order, "syn_00000000000000000000000003")
        assert refused.value.code == code
    with pytest.raises(ScanRefused) as refused:
        await orders.status("scn_/../unknown")
    assert refused.value.code == "upstream_failed"


class Upstream(httpx.AsyncBaseTransport):
    """Answers as told and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), list[httpx.Request]()
        self.orders = HttpScanOrders(URL, ["first", "second", "third"], [KEY], utc_now, self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))


ACCEPTED = {"scan_id": "scn_1", "status": "PENDING", "status_url": "/scans/scn_1", "news": 1}


async def test_an_order_is_signed_as_it_is_sent() -> None:
    upstream = Upstream(httpx.Response(202, json=ACCEPTED))
    assert await upstream.orders.order(ORDER, "syn_1") == "scn_1"
    asked = upstream.asked[0]
    assert (asked.method, str(asked.url), asked.headers["idempotency-key"]) == ("POST", f"{URL}/scans", "syn_1")
    assert asked.headers["private-token"] == "first"
    assert verify([KEY], [(name.lower(), value) for name, value in asked.headers.raw], asked.content, time.time())
    assert json.loads(asked.content) == {
        "user_id": "usr_1", "folders": [{"folder_id": "fld_1", "source": "s3://dossier/in/"}], "callback": "default",
        "correlation_id": "syn_1",
    }  # fmt: skip
    assert "authorization" not in asked.headers


async def test_the_second_token_is_tried_and_no_third() -> None:
    upstream = Upstream(httpx.Response(401), httpx.Response(202, json=ACCEPTED))
    assert await upstream.orders.order(ORDER, "syn_1") == "scn_1"
    assert [asked.headers["private-token"] for asked in upstream.asked] == ["first", "second"]
    upstream = Upstream(httpx.Response(401), httpx.Response(401))
    with pytest.raises(ScanRefused):
        await upstream.orders.order(ORDER, "syn_1")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500), httpx.Response(503), httpx.Response(429), httpx.Response(409), httpx.ConnectError("no"),
        httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut"),
    ],
)  # fmt: skip
async def test_what_may_pass_is_tried_again_later(answer: httpx.Response | Exception) -> None:
    with pytest.raises(Unavailable):
        await Upstream(answer).orders.order(ORDER, "syn_1")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(422, json={"code": "source_not_allowed"}), "source_not_allowed"),
        (httpx.Response(422, json={"code": "something_secret"}), "upstream_failed"),
        (httpx.Response(403, text="<html>"), "upstream_failed"),
        (httpx.Response(302, headers={"Location": "http://127.0.0.1/"}), "upstream_failed"),
        (httpx.Response(202, text="not json"), "upstream_failed"),
        (httpx.Response(202, json={"scan_id": 7}), "upstream_failed"),
        (httpx.Response(202, json={**ACCEPTED, "more": "x" * 70_000}), "upstream_failed"),
    ],
)
async def test_what_will_not_pass_ends_it(answer: httpx.Response, code: str) -> None:
    upstream = Upstream(answer)
    with pytest.raises(ScanRefused) as refused:
        await upstream.orders.order(ORDER, "syn_1")
    assert (refused.value.code, len(upstream.asked)) == (code, 1)


async def test_a_dripping_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_orders, "TOTAL_S", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for part in _drops():
            writer.write(part)
            await writer.drain()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await HttpScanOrders(f"http://127.0.0.1:{port}", ["t"], [KEY], utc_now).order(ORDER, "syn_1")
    assert time.monotonic() - started < 3
    server.close()


async def _drops() -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(20):
        await asyncio.sleep(0.1)
        yield b" "
