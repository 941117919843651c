"""The API in the test's own process, worker and beat in theirs, and receivers on this machine."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.container import Container, build_container
from app.runtime import migrate
from app.server import create_app
from core.config import load_settings
from core.ids import random_token
from core.local.folder import DataFolder, open_folder
from core.local.stack import LocalServers
from tests.clients import API_KEY, Person, Service
from tests.integration.faults.process import Process, until
from tests.integration.running import free_port
from tests.integration.webhooks.receiver import Receiver

SCHEDULE = "0,1,1,2"  # seconds
EVENT_S = 20  # at most, from a change to its first attempt on a busy machine
Hook = dict[str, Any]


class Crew:
    """Worker and beat, as an operator would start them."""

    def __init__(self, folder: DataFolder, env: dict[str, str]) -> None:
        self._folder, self._env, self._started = folder, env, 0
        self.processes: list[Process] = []

    def start(self, *command: str) -> Process:
        self._started += 1
        process = Process(
            self._folder, f"crew{self._started}", ["celery", "--app=app.worker", "--quiet", *command], self._env
        )
        self.processes.append(process)
        return process

    def worker(self) -> Process:
        name = f"--hostname=w{self._started}@%h"
        return self.start(
            "worker", "--queues=deliveries,periodic", "--concurrency=2", "--without-gossip", "--without-mingle", name
        )


class Shop:
    """What the tests hold in their hands."""

    def __init__(
        self, container: Container, http: httpx.AsyncClient, receiver: Receiver, crew: Crew, dead: str
    ) -> None:
        self.container, self.http, self.receiver, self.crew, self.dead = container, http, receiver, crew, dead
        self.service = Service(http)

    async def hook(self, caller: Person | Service, url: str, *events: str) -> Hook:
        wanted = {"url": url, "events": list(events or ("document.uploaded",))}
        answer = await caller.post("/webhooks", json=wanted)
        assert answer.status_code == 201, answer.text
        made: Hook = answer.json()
        return made

    async def tested(self, caller: Person, hook: Hook) -> str:
        """A delivery of this webhook alone."""
        answer = await caller.post(f"/webhooks/{hook['webhook_id']}/test")
        assert answer.status_code == 202, answer.text
        return str(answer.json()["delivery_id"])

    async def deliveries(self, caller: Person | Service, hook: Hook) -> list[Hook]:
        items: list[Hook] = (await caller.get(f"/webhooks/{hook['webhook_id']}/deliveries?limit=100")).json()["items"]
        return items

    async def ended(self, caller: Person | Service, hook: Hook, status: str, within_s: float = EVENT_S) -> list[Hook]:
        """The deliveries, once there are some and all have this status."""

        async def all_ended() -> bool:
            return {row["status"] for row in await self.deliveries(caller, hook)} == {status}

        await self.until(all_ended, within_s, f"deliveries are {status}")
        return await self.deliveries(caller, hook)

    async def until(self, condition: Callable[[], Any], within_s: float, what: str) -> float:
        for process in self.crew.processes:
            process.check()
        return await until(condition, within_s, what, patience=1)


@pytest.fixture(scope="module")
async def shop(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("webhooks")
    dead = f"http://127.0.0.1:{free_port()}"
    async with Receiver().listening() as receiver:
        env = {
            "APP_ENV": "local",
            "DATA_DIR": str(folder / "data"),
            "MONGO_URL": servers.mongo_url,
            "MONGO_DB": f"w{random_token(48)}",
            "REDIS_URL": servers.redis_url + "/7" if servers.redis_url.count("/") == 2 else servers.redis_url,
            "STORAGE_BACKEND": "local",
            "API_KEY": API_KEY,
            "EGRESS_ALLOWED_ORIGINS": f"{receiver.origin},{dead}",
            "WEBHOOK_RETRY_SCHEDULE": SCHEDULE,
            "RECONCILE_INTERVAL_SECONDS": "1",
            "RATE_LIMIT_PER_MINUTE": "0",
            "LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
            "REMAP_SIGTERM": "SIGQUIT",
        }
        settings = load_settings("local", **{name.lower(): value for name, value in env.items()})
        container = build_container(settings, "api")
        app = create_app(container)
        crew = Crew(open_folder(folder), {**os.environ, **env})
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dossier.test") as http,
        ):
            await migrate(container)
            crew.start("beat", "--pidfile=")
            crew.worker()
            try:
                yield Shop(container, http, receiver, crew, dead)
            finally:
                for process in crew.processes:
                    if process.is_running():
                        process.kill()
                names = await container.mongo().list_database_names()
                ours = [name for name in names if name.startswith(settings.mongo_db)]
                await asyncio.gather(*(container.mongo().drop_database(name) for name in ours))


@pytest.fixture
async def ada(shop: Shop) -> Person:
    return await Person.registered(shop.http, f"ada-{random_token(48)}@example.com")


@pytest.fixture
async def bob(shop: Shop) -> Person:
    """Somebody else."""
    return await Person.registered(shop.http, f"bob-{random_token(48)}@example.com")
