"""The door at a real socket: what is refused unread, what is ended, who is throttled and who is not."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from app.container import build_container
from app.runtime import migrate
from app.server import create_app
from core.config import Settings
from core.http.receiving import Deadlines
from core.ids import random_token
from core.local.stack import LocalServers
from tests.clients import PASSWORD, PRIVATE_TOKEN, SIGNING_SECRET
from tests.integration.running import free_port

SHORT = Deadlines(silence_s=0.3, body_s=0.6)
OWNER, PATIENT = "ada@example.com", 10
JSON_LOGIN = "POST /auth/login HTTP/1.1\nHost: x\nContent-Type: application/json"


@dataclass
class Api:
    port: int
    container: Any

    async def sends(self, head: str, body: bytes = b"", *, pause_s: float = 0) -> tuple[str, int]:
        """Everything that comes back until the server closes, and how many bytes of the body it took."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = asyncio.create_task(reader.read())
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        taken, size = 0, 65_536 if not pause_s else 1
        try:
            for start in range(0, len(body), size):
                writer.write(body[start : start + size])
                await writer.drain()
                taken += size
                await asyncio.sleep(pause_s)
        except ConnectionError:
            pass
        try:
            said = (await asyncio.wait_for(answer, PATIENT)).decode()
        except ConnectionError:
            said = ""
        writer.close()
        return said, taken

    async def login(self, source: str, email: str = OWNER, password: str = "a wrong guess", **headers: str) -> Any:
        transport = httpx.AsyncHTTPTransport(local_address=source)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{self.port}") as client:
            return await client.post("/auth/login", json={"email": email, "password": password}, headers=headers)

    async def register(self, source: str = "127.0.0.1", email: str = OWNER) -> Any:
        transport = httpx.AsyncHTTPTransport(local_address=source)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{self.port}") as client:
            return await client.post("/auth/register", json={"email": email, "password": PASSWORD})


Start = Callable[..., Awaitable[Api]]


@pytest.fixture
async def start(servers: LocalServers, signing_key: Path, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts an API on a database of its own."""
    async with AsyncExitStack() as stack:

        async def started(*, redis_url: str | None = None, deadlines: Deadlines = SHORT, **changed: Any) -> Api:
            given: dict[str, Any] = {
                "app_env": "test", "data_dir": tmp_path, "storage_backend": "local", "max_upload_bytes": 50_000_000,
                "mongo_url": SecretStr(servers.mongo_url), "mongo_db": f"t{random_token(48)}",
                "redis_url": SecretStr(redis_url or servers.redis_url), "jwt_private_keys": (str(signing_key),),
                "private_tokens": SecretStr(PRIVATE_TOKEN), "scan_signing_secret": SecretStr(SIGNING_SECRET),
            }  # fmt: skip
            container = build_container(Settings(**{**given, **changed}), "api")
            own_keys = random_token(96).encode()  # buckets of one test are not those of another
            container.limiter().__dict__["_secret"] = own_keys
            await stack.enter_async_context(_migrated(container))
            return await stack.enter_async_context(_served(container, deadlines))

        yield started


@asynccontextmanager
async def _migrated(container: Any) -> AsyncIterator[None]:
    await migrate(container)
    yield
    mongo = container.mongo.provides(container.settings(), "api")
    settings = container.settings()
    for module in ("users", "folders", "documents"):
        await mongo.drop_database(f"{settings.mongo_db}_{module}")
    await mongo.close()


@asynccontextmanager
async def _served(container: Any, deadlines: Deadlines) -> AsyncIterator[Api]:
    port = free_port()
    app = create_app(container, deadlines)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, proxy_headers=False))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    yield Api(port, container)
    server.should_exit = server.force_exit = True
    await serving


def code_of(said: str) -> str:
    return str(json.loads(said.partition("\r\n\r\n")[2])["code"])


# Bodies


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("POST /documents/upload HTTP/1.1\nHost: x\nContent-Length: 40000000", "token_missing"),
        ("POST /documents/upload HTTP/1.1\nHost: x\nContent-Length: 99000000", "body_too_large"),
        ("POST /nowhere HTTP/1.1\nHost: x\nContent-Length: 40000000", "body_too_large"),
        ("POST /nowhere HTTP/1.1\nHost: x\nContent-Length: 60000", "not_found"),
        ("POST /auth/login HTTP/1.1\nHost: x\nContent-Length: 32769", "body_too_large"),
    ],
)
async def test_a_refused_request_takes_no_body(start: Start, head: str, code: str) -> None:
    api = await start()
    said, _ = await api.sends(f"{head}\nExpect: 100-continue")
    assert "100 Continue" not in said
    assert "connection: close" in said.lower()
    assert code_of(said) == code
    _, taken = await api.sends(head, b"x" * 40_000_000)
    assert taken < 12_000_000  # what two kernels buffer


async def test_declared_and_chunked_bodies_meet_the_same_limit(start: Start) -> None:
    api = await start()
    said, _ = await api.sends(f"{JSON_LOGIN}\nContent-Length: 33000", b"x" * 33_000)
    assert code_of(said) == "body_too_large"
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    said, _ = await api.sends(f"{JSON_LOGIN}\nTransfer-Encoding: chunked", chunk * 9)
    assert code_of(said) == "body_too_large"
    assert "connection: close" in said.lower()


async def test_a_stalled_body_ends(start: Start) -> None:
    api = await start()
    started = time.monotonic()
    said, _ = await api.sends(f"{JSON_LOGIN}\nContent-Length: 100", b"{")
    assert (said.split()[1], code_of(said)) == ("408", "request_timeout")
    assert "connection: close" in said.lower()
    assert time.monotonic() - started < 1.5


async def test_a_dripping_body_ends(start: Start) -> None:
    api = await start()
    started = time.monotonic()
    said, taken = await api.sends(f"{JSON_LOGIN}\nContent-Length: 100", b"x" * 99, pause_s=0.05)
    assert taken < 99
    assert time.monotonic() - started < 2
    assert not said or code_of(said) == "request_timeout"


async def test_a_full_process_says_so_and_stays_alive(start: Start) -> None:
    api = await start(max_in_flight=1, deadlines=Deadlines(silence_s=1))
    slow = asyncio.create_task(api.sends(f"{JSON_LOGIN}\nContent-Length: 9", b"{"))
    await asyncio.sleep(0.3)
    said, _ = await api.sends("GET /users/me HTTP/1.1\nHost: x\nConnection: close")
    assert (said.split()[1], code_of(said)) == ("503", "overloaded")
    assert "retry-after: 1" in said.lower()
    assert " 200 OK" in (await api.sends("GET /health HTTP/1.1\nHost: x\nConnection: close"))[0]
    await slow
    assert code_of((await api.sends("GET /users/me HTTP/1.1\nHost: x\nConnection: close"))[0]) == "token_missing"


# Guessing


async def test_parallel_guesses_at_one_account_get_its_burst(start: Start) -> None:
    api = await start()
    await api.register()
    spellings = (OWNER, OWNER.upper(), "Ada@Example.com", "\uff41da@example.com")
    answers = await asyncio.gather(*(api.login("127.0.0.1", spellings[number % 4]) for number in range(24)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 19
    waits = {answer.headers["retry-after"] for answer in answers if answer.status_code == 429}
    assert all(wait.isdigit() and 55 <= int(wait) <= 60 for wait in waits)
    assert (await api.login("127.0.0.1", password=PASSWORD)).status_code == 429


async def test_strangers_cannot_lock_the_owner_out(start: Start) -> None:
    api = await start()
    await api.register()
    assert (await api.login("127.0.0.2", password=PASSWORD)).status_code == 200
    guesses = [await api.login(f"127.0.1.{number}") for number in range(1, 6) for _ in range(5)]
    assert [answer.status_code for answer in guesses] == [401] * 20 + [429] * 5  # the account's, from unknown networks
    assert (await api.login("127.0.9.9", password=PASSWORD)).status_code == 429
    assert (await api.login("127.0.0.2", password=PASSWORD)).status_code == 200


async def test_a_login_of_ones_own_does_not_wash_guesses_away(start: Start) -> None:
    api = await start()
    await api.register()
    started, codes = time.monotonic(), []
    for turn in range(4):
        guesses = (api.login("127.0.0.1", f"{turn}-{number}@example.com") for number in range(12))
        codes += [answer.status_code for answer in await asyncio.gather(*guesses)]
        await api.login("127.0.0.1", password=PASSWORD)
    assert 30 <= codes.count(401) <= 31 + (time.monotonic() - started) / 3


async def test_registrations_of_one_network_are_few(start: Start) -> None:
    api = await start()
    codes = [(await api.register(email=f"{number}@example.com")).status_code for number in range(12)]
    assert codes == [201] * 10 + [429] * 2
    assert (await api.register("127.0.0.2", "other@example.com")).status_code == 201


async def test_a_forged_address_changes_nothing(start: Start) -> None:
    api = await start()
    forged = [{"X-Forwarded-For": f"203.0.113.{number}"} for number in range(7)]
    answers = [await api.login("127.0.0.1", **headers) for headers in forged]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2


async def test_behind_a_trusted_proxy_the_right_most_stranger_counts(start: Start) -> None:
    api = await start(trusted_proxies=("127.0.0.1/32",))

    async def codes(forwarded: Callable[[int], str]) -> list[int]:
        headers = [{"X-Forwarded-For": forwarded(number)} for number in range(6)]
        return [(await api.login("127.0.0.1", f"{random_token(48)}@x.test", **one)).status_code for one in headers]

    assert await codes(lambda number: f"198.51.100.{number}") == [401] * 6
    pair = [
        (await api.login("127.0.0.1", **{"X-Forwarded-For": f"10.0.0.{n}, 192.0.2.1"})).status_code for n in range(6)
    ]
    assert pair == [401] * 5 + [429]  # what the client wrote on the left is not looked at


async def test_the_general_limit_is_for_each_principal(start: Start) -> None:
    api = await start(rate_limit_per_minute=8)
    await api.register()
    token = (await api.login("127.0.0.1", password=PASSWORD)).json()["access_token"]
    base = f"http://127.0.0.1:{api.port}"
    async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {token}"}) as client:
        answers = [await client.get("/users/me") for _ in range(10)]
        assert [answer.status_code for answer in answers] == [200] * 8 + [429] * 2
        assert answers[-1].json()["code"] == "rate_limited"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 8
        for path in ("/health", "/health/ready", "/metrics"):
            assert [(await client.get(path)).status_code for _ in range(12)] == [200] * 12
        # Who cannot say who it is pays as the network, from which two requests came already.
        bad = [await client.get("/users/me", headers={"Authorization": "Bearer no"}) for _ in range(8)]
        assert [answer.status_code for answer in bad] == [401] * 6 + [429] * 2


async def test_nothing_is_limited_when_limits_are_off(start: Start) -> None:
    api = await start(rate_limit_per_minute=0)
    assert {(await api.login("127.0.0.1")).status_code for _ in range(8)} == {401}


# Redis away


async def test_limits_outlive_redis(start: Start) -> None:
    api = await start(redis_url=f"redis://127.0.0.1:{free_port()}")
    codes = [(await api.login("127.0.0.1")).status_code for _ in range(8)]
    assert codes == [401] * 5 + [429] * 3
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{api.port}/metrics")).text
    assert "rate_limit_fallbacks_total" in metrics


async def test_a_redis_that_hangs_costs_one_request_its_time_out(start: Start) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    api = await start(redis_url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    started = time.monotonic()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}") as client:
        assert {(await client.get("/users/me")).status_code for _ in range(30)} == {401}
    assert time.monotonic() - started < 1.2  # 30 × 0.25 s otherwise
    for writer in writers:
        writer.close()
    server.close()
