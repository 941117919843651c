"""Two APIs behind a balancer, one replaced after the other, as docs/deployment.md says: nobody notices."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pymongo import MongoClient

from app.modules import MODULES
from core.ids import random_token
from core.local.stack import LocalServers
from tests.clients import Person
from tests.corpus import pdfs
from tests.integration.faults.process import until
from tests.integration.running import READY_S, ROOT, STOP_S, free_port

pytestmark = pytest.mark.timeout(240)

WATCH_S = 0.05


class Api:
    """One process of the API on a port of its own."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.in_flight = 0
        self._env, self._log = env, log

    def start(self) -> None:
        command = [sys.executable, "main.py", "--env", "local", "--role", "api", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdout=log, stderr=subprocess.STDOUT)

    async def stopped(self) -> int:
        """How it ended, after SIGTERM."""
        return await asyncio.to_thread(self.process.wait, STOP_S)

    def is_listening(self) -> bool:
        return any(found.status == psutil.CONN_LISTEN for found in psutil.Process(self.process.pid).net_connections())

    async def is_ready(self) -> bool:
        assert self.process.poll() in {None, 0, -signal.SIGTERM}, self._log.read_text()[-2000:]
        with suppress(httpx.TransportError):
            return (await self.http.get("/health/ready", timeout=3)).status_code == 200
        return False


class Balancer(httpx.AsyncBaseTransport):
    """Takes turns among those who say that they are ready; forgets at once who shall stop, and repeats nothing."""

    def __init__(self, apis: list[Api]) -> None:
        self._apis, self._leaving, self._turn = apis, set[Api](), 0
        self.ready: list[Api] = []
        self.answers: Counter[tuple[int, int]] = Counter()  # by port and status
        self.broken: list[str] = []

    def leave(self, api: Api) -> None:
        self._leaving.add(api)
        self.ready = [each for each in self.ready if each is not api]

    def served_by(self, api: Api) -> int:
        return sum(count for (port, _), count in self.answers.items() if port == api.port)

    def may_return(self, api: Api) -> None:
        self._leaving.discard(api)

    async def watch(self) -> None:
        while True:
            found = [each for each in self._apis if await each.is_ready()]
            self.ready = [each for each in found if each not in self._leaving]
            await asyncio.sleep(WATCH_S)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        api = self.ready[self._turn % len(self.ready)]
        self._turn += 1
        api.in_flight += 1
        try:
            url = request.url.copy_with(port=api.port, host="127.0.0.1")
            answer = await api.http.request(request.method, url, headers=request.headers, content=request.read())
        except httpx.HTTPError as error:
            self.broken.append(f"{request.method} {request.url.path}: {error!r}")
            raise
        finally:
            api.in_flight -= 1
        self.answers[api.port, answer.status_code] += 1
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture
def apis(servers: LocalServers, tmp_path: Path) -> Iterator[list[Api]]:
    env = os.environ | {
        "DATA_DIR": str(tmp_path / "data"),
        "MONGO_URL": servers.mongo_url,
        "MONGO_DB": f"r{random_token(48)}",
        "REDIS_URL": servers.redis_url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url,
        "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
        "LOG_FORMAT": "json",
    }
    made = [Api(env, tmp_path / f"api{number}.log") for number in range(2)]
    for api in made:
        api.start()
    yield made
    for api in made:
        api.process.kill()
        api.process.wait()
    with MongoClient[Any](servers.mongo_url) as mongo:
        for module in MODULES:
            mongo.drop_database(f"{env['MONGO_DB']}_{module}")


@pytest.fixture
async def balancer(apis: list[Api]) -> AsyncIterator[Balancer]:
    made = Balancer(apis)
    watching = asyncio.create_task(made.watch())
    await until(lambda: len(made.ready) == 2, READY_S, "both are ready", patience=1)
    yield made
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await asyncio.gather(*(api.http.aclose() for api in apis))


@asynccontextmanager
async def traffic(ada: Person) -> AsyncIterator[None]:
    """People at work, one request after the other each; whatever is not answered well ends the test."""
    calls: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: ada.get("/documents"),
        lambda: ada.upload(pdfs.pdf([random_token()])),
        lambda: ada.post("/folders", json={"name": random_token()}),
    ]

    async def work(call: Callable[[], Awaitable[httpx.Response]]) -> None:
        while not is_over.is_set():
            answer = await call()
            assert answer.status_code in {200, 201}, answer.text

    is_over = asyncio.Event()
    working = [asyncio.create_task(work(call)) for call in calls]
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*working)


class SlowUpload:
    """An upload whose second half waits for us; the API has begun to read it."""

    def __init__(self, api: Api, ada: Person) -> None:
        self._api, self._ada = api, ada
        content = pdfs.pdf(["slow"])
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="slow.pdf"\r\n\r\n'
        self._body = head + content + b"\r\n--b--\r\n"

    async def begin(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._api.port)
        head = (
            "POST /documents/upload HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: {self._ada.auth['Authorization']}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(self._body)}\r\n\r\n"
        )
        self._writer.write(head.encode())
        assert b" 100 " in await self._reader.readuntil(b"\r\n\r\n")
        self._writer.write(self._body[:200])
        await self._writer.drain()

    async def end(self) -> tuple[bytes, dict[str, object]]:
        """First line and body of the answer."""
        self._writer.write(self._body[200:])
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.read()  # to the end: whoever stops closes
        self._writer.close()
        return head.split(b"\r\n")[0], json.loads(body)


def another(count: int, counted: Callable[[], int]) -> Callable[[], bool]:
    """Whether so many came on top of those until now."""
    wanted = counted() + count
    return lambda: counted() >= wanted


async def replaced(api: Api, balancer: Balancer, ada: Person, document_id: str) -> None:
    """Stops it with a slow upload and a long poll in its hands, and starts it again."""
    slow = SlowUpload(api, ada)
    await slow.begin()
    poll = asyncio.create_task(api.http.get(f"/documents/{document_id}/status?wait=25", headers=ada.auth))

    balancer.leave(api)  # what deleting a pod does while preStop sleeps
    await until(lambda: api.in_flight == 0, 3, "what was sent there has ended")
    api.process.send_signal(signal.SIGTERM)
    await until(lambda: not api.is_listening(), 3, "it takes nothing new")
    line, document = await slow.end()
    assert (line, document["filename"]) == (b"HTTP/1.1 201 Created", "slow.pdf")
    assert (await poll).json()["status"] == "PROCESSING"
    assert await api.stopped() in {0, -signal.SIGTERM}

    await until(another(20, balancer.answers.total), 5, "the other one serves")
    api.start()
    balancer.may_return(api)
    await until(lambda: api in balancer.ready, READY_S, "it is back", patience=1)
    await until(another(5, lambda: balancer.served_by(api)), 5, "it serves again")


async def test_each_is_stopped_and_started_again_and_no_request_fails(apis: list[Api], balancer: Balancer) -> None:
    async with httpx.AsyncClient(transport=balancer, base_url="http://dossier.test") as http:
        ada = await Person.registered(http, "ada@example.com")
        waiting = await ada.uploaded(pdfs.pdf(["waits: no worker runs"]))
        await ada.post(f"/documents/{waiting['document_id']}/process")
        async with traffic(ada):
            for api in apis:
                await replaced(api, balancer, ada, waiting["document_id"])
    assert balancer.broken == []
    assert {status for _, status in balancer.answers} <= {200, 201, 202}
