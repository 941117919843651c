"""What the door decides besides credentials: hosts, parameters, deadlines, places, headers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from app.container import Container
from app.server import create_app
from core.config import Settings
from core.http import ingress
from core.http.client_address import ClientAddress, network_of
from core.http.receiving import Deadlines
from tests.clients import Person, problem
from tests.corpus import pdfs

Open = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def opened(container: Container, settings: Settings) -> Open:
    """The application with other settings, or shorter deadlines."""

    @asynccontextmanager
    async def open_with(deadlines: Deadlines | None = None, **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
        container.settings.override(settings.model_copy(update=changed))
        app = create_app(container, deadlines)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dossier.test") as client,
        ):
            yield client

    return open_with


async def test_only_listed_hosts_are_served_but_health_answers_to_any(opened: Open) -> None:
    async with opened(allowed_hosts=("dossier.test",)) as http:
        assert (await http.get("/", headers={"Host": "Dossier.test:8443"})).status_code < 400
        for host in ("evil.test", "dossier.test.evil.test", "", "dossier.test:x"):
            answer = await http.get("/users/me", headers={"Host": host})
            problem(answer, 400, "malformed_request")
            assert "evil" not in answer.text + str(answer.headers)
        problem(await http.get("/users/me", headers=[("Host", "dossier.test")] * 2), 400, "malformed_request")
        assert (await http.get("/health", headers={"Host": "127.0.0.1:8000"})).status_code == 200


async def test_transport_security_is_sent_when_asked_for(opened: Open, http: httpx.AsyncClient) -> None:
    assert "strict-transport-security" not in (await http.get("/health")).headers
    async with opened(hsts=True) as secure:
        for path in ("/health", "/nowhere"):
            value = (await secure.get(path)).headers["strict-transport-security"]
            assert value == "max-age=63072000; includeSubDomains"


async def test_a_known_parameter_stands_once(ada: Person) -> None:
    found = problem(await ada.get("/documents?limit=1&limit=2"), 422, "validation_failed")
    assert found["errors"] == [{"pointer": "/limit", "code": "repeated", "message": "The parameter may stand once."}]
    assert (await ada.get("/documents?x=1&x=2&limit=2")).status_code == 200


async def test_a_handler_that_takes_too_long_is_ended(
    container: Container, opened: Open, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> bool:
        await asyncio.sleep(60)
        return True

    monkeypatch.setattr(type(container.users.users()), "get", never)
    async with opened(Deadlines(answer_s=0.2)) as http:
        answer = await http.get("/users/me", headers=ada.auth)
        problem(answer, 503, "dependency_unavailable")
        assert answer.headers["retry-after"] == "5"


async def test_an_upload_is_not_hurried(
    container: Container, opened: Open, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = container.files()
    put = store.put

    async def slow(*given: Any) -> None:
        await asyncio.sleep(0.5)
        await put(*given)

    monkeypatch.setattr(store, "put", slow)
    async with opened(Deadlines(answer_s=0.3)) as http:
        sent = {"file": ("a.pdf", pdfs.pdf(["x"]))}
        assert (await http.post("/documents/upload", files=sent, headers=ada.auth)).status_code == 201


async def test_a_body_that_arrives_slowly_does_not_use_up_the_time_to_answer(opened: Open) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for part in (b'{"email": "ada@example.com",', b'"password":', b'"correct horse battery"}'):
            await asyncio.sleep(0.6)
            yield part

    async with opened(Deadlines(answer_s=1.5)) as http:
        answer = await http.post("/auth/register", content=slow(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 201


async def test_who_finds_no_place_to_wait_is_answered_at_once(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "MAX_WAITING", 1)
    async with opened() as http:
        ada = await Person.registered(http, "ada@example.com")
        document = await ada.uploaded(pdfs.pdf(["x"]))
        await ada.post(f"/documents/{document['document_id']}/process")
        path = f"/documents/{document['document_id']}/status?wait="
        waiting = asyncio.create_task(ada.get(path + "2"))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(1):
            assert (await ada.get(path + "30")).status_code == 200
        assert not waiting.done()
        await waiting


async def test_refusals_may_be_read_by_the_browsers_that_are_allowed(opened: Open) -> None:
    async with opened(cors_origins=("https://app.test",)) as http:
        refused = await http.get("/users/me", headers={"Origin": "https://app.test"})
        problem(refused, 401, "token_missing")
        assert refused.headers["access-control-allow-origin"] == "https://app.test"
        form = {f"field{number}": "x" for number in range(12)}  # what Starlette refuses, is refused in the same place
        unread = await http.post("/auth/login", data=form, headers={"Origin": "https://app.test"})
        problem(unread, 400, "malformed_request")
        assert unread.headers["access-control-allow-origin"] == "https://app.test"
        other = await http.get("/users/me", headers={"Origin": "https://evil.test"})
        assert "access-control-allow-origin" not in other.headers


async def test_browsers_may_resume_a_download(opened: Open) -> None:
    async with opened(cors_origins=("https://app.test",)) as http:
        origin = {"Origin": "https://app.test"}
        wanted = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range,if-range,x-api-key"}
        assert (await http.options("/documents/doc_1/content", headers=origin | wanted)).status_code == 200
        exposed = (await http.get("/health", headers=origin)).headers["access-control-expose-headers"]
        assert {"Content-Disposition", "Content-Range"} <= set(exposed.split(", "))


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ((), "192.0.2.1", "203.0.113.9", "192.0.2.1/32"),
        (("10.0.0.0/8",), "192.0.2.1", "203.0.113.9", "192.0.2.1/32"),
        (("10.0.0.0/8",), "10.0.0.1", "203.0.113.9", "203.0.113.9/32"),
        (("10.0.0.0/8",), "10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9/32"),
        (("10.0.0.0/8",), "10.0.0.1", "1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2/32"),
        (("10.0.0.0/8",), "10.0.0.1", "", "10.0.0.1/32"),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ((), "fe80::1%eth0", "", "fe80::/64"),
        ((), "unix:", "", "0.0.0.0/32"),
    ],
)
def test_the_client_is_whom_trusted_proxies_name(
    trusted: tuple[str, ...], peer: str, forwarded: str, client: str
) -> None:
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}
    assert network_of(ClientAddress(trusted).of(scope)) == client
