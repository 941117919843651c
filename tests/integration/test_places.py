"""How much of an API is taken, told by whichever of its processes is asked."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from psutil import Process

from core.http.gate import DOWNLOADS
from core.ids import random_token
from core.local.stack import LocalServers
from tests.clients import Person
from tests.integration.faults.process import until
from tests.integration.running import ROOT, free_port

pytestmark = pytest.mark.timeout(180)

PROCESSES, PLACES = 2, 8  # UPLOAD_CONCURRENCY is of one process
BODY = b"--x\r\nContent-Disposition: form-data; name=file; filename=a.pdf\r\n\r\n%PDF-1.7 "


class Api:
    """Two processes behind one port."""

    def __init__(self, process: Process, http: httpx.AsyncClient, port: int) -> None:
        self.process, self.http, self.port = process, http, port

    def children(self) -> list[Process]:
        return [child for child in self.process.children() if "spawn_main" in " ".join(child.cmdline())]

    async def places(self, name: str) -> dict[str, float]:
        """By what they are of."""
        answer = await self.http.get("/metrics")
        return {of: float(value) for of, value in re.findall(rf'^{name}{{of="(\w+)"}} (\S+)$', answer.text, re.M)}

    async def tells(self, name: str, of: str, value: float) -> None:
        async def is_told() -> bool:
            with suppress(httpx.TransportError):  # of a process that has just been killed
                return (await self.places(name)).get(of) == value
            return False

        await until(is_told, 30, f"{name} of {of} is {value}", patience=1)

    def half_an_upload(self, person: Person) -> socket.socket:
        """A client that sends no more for now."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        lines = [
            "POST /documents/upload HTTP/1.1", "Host: x", "Content-Length: 100000",
            "Content-Type: multipart/form-data; boundary=x", f"Authorization: {person.auth['Authorization']}",
        ]  # fmt: skip
        client.sendall("\r\n".join([*lines, "", ""]).encode() + BODY)
        return client


@pytest.fixture(scope="module")
def started(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    """The parent of both, and their port."""
    port = free_port()
    env = os.environ | {
        "DATA_DIR": str(tmp_path_factory.mktemp("data")), "MONGO_URL": servers.mongo_url,
        "REDIS_URL": servers.redis_url, "MONGO_DB": f"p{random_token(48)}", "STORAGE_BACKEND": "local",
    }  # fmt: skip
    command = [sys.executable, "main.py", "--role", "api", "--port", str(port), "--workers", str(PROCESSES)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    yield psutil.Process(process.pid), port
    process.terminate()
    process.wait(60)


@pytest.fixture
async def api(started: tuple[Process, int]) -> AsyncIterator[Api]:
    process, port = started
    each_anew = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, limits=each_anew) as http:

        async def answers() -> bool:
            assert process.is_running()
            try:
                return (await http.get("/health")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers, 60, "it answers", patience=1)
        yield Api(process, http, port)


async def test_a_process_that_is_not_asked_writes_its_places_down(api: Api) -> None:
    folder = api.children()[0].environ()["PROMETHEUS_MULTIPROC_DIR"]

    def written() -> list[float]:
        families = MultiProcessCollector(None, path=folder).collect()  # type: ignore[no-untyped-call]
        return [
            sample.value for family in families if family.name == "places"
            for sample in family.samples if sample.labels["of"] == "uploads"
        ]  # fmt: skip

    await until(lambda: written() == [PROCESSES * PLACES], 30, "both have", patience=1)


async def test_places_are_those_of_all_processes_that_live(api: Api) -> None:
    await api.tells("places", "uploads", PROCESSES * PLACES)
    ada = await Person.registered(api.http, "ada@example.com")
    with ExitStack() as uploads:
        for _ in range(3):
            uploads.enter_context(api.half_an_upload(ada))
        await api.tells("places_in_use", "uploads", 3)
        assert (await api.places("places_in_use"))["requests"] >= 3
    await api.tells("places_in_use", "uploads", 0)
    assert await api.places("places") == {
        "uploads": PROCESSES * PLACES, "downloads": PROCESSES * DOWNLOADS, "requests": PROCESSES * 2048,
        "mongo": PROCESSES * 100, "redis": PROCESSES * 32,
    }  # fmt: skip

    children = api.children()
    assert len(children) == PROCESSES
    children[0].send_signal(signal.SIGKILL)
    children[0].wait(10)
    await api.tells("places", "uploads", PLACES)  # until another is there
    await api.tells("places", "uploads", PROCESSES * PLACES)
