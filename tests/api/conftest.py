"""The whole application over ASGI, without servers: repositories on mongomock or their twins, files on disk."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dependency_injector import providers
from pydantic import SecretStr

from app.container import Container, build_container
from app.runtime import migrate
from app.server import create_app
from core.config import Settings
from core.security.egress import EgressClient
from core.security.ratelimit import Limiter, MemoryBuckets
from tests.clients import API_KEY, PRIVATE_TOKEN, SIGNING_SECRET, Person, Service
from tests.idempotency_twin import IdempotencyKeysTwin
from tests.mongomock_client import MockClient
from tests.sessions_twin import SessionCacheTwin, SessionsTwin
from tests.twins import RunsTwin


class RecordedWakeUps:
    """Stands for the broker: remembers what would have been sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.delays: list[float] = []

    def send(
        self, task: str, args: tuple[Any, ...], *, queue: str, request_id: str, trace: str = "", after_s: float = 0
    ) -> None:
        self.sent.append((task, *args))
        self.delays.append(after_s)

    def close(self) -> None:
        """Nothing is open."""


class NoRedis:
    """Answers as an idle Redis would."""

    async def ping(self) -> bool:
        return True

    async def llen(self, _: str) -> int:
        return 0

    async def aclose(self) -> None:
        """Nothing is open."""


async def to_the_internet(host: str, port: int) -> list[str]:
    """Stands for DNS: every name is public, and nothing is called in this tier."""
    return ["93.184.215.14"]


@pytest.fixture
def settings(tmp_path: Path, signing_key: Path) -> Settings:
    return Settings(
        app_env="test",
        data_dir=tmp_path,
        mongo_url=SecretStr("mongodb://nowhere.invalid"),
        redis_url=SecretStr("redis://nowhere.invalid"),
        storage_backend="local",
        jwt_private_keys=(str(signing_key),),
        private_tokens=SecretStr(PRIVATE_TOKEN),
        scan_signing_secret=SecretStr(SIGNING_SECRET),
        max_upload_bytes=2_000_000,
        api_key=SecretStr(API_KEY),
        cache_ttl_seconds=0,
    )


@pytest.fixture
async def container(settings: Settings) -> AsyncIterator[Container]:
    container = build_container(settings, "api")
    container.mongo.override(providers.Singleton(MockClient))
    container.redis.override(providers.Singleton(NoRedis))
    container.limiter.override(providers.Singleton(Limiter, MemoryBuckets(), MemoryBuckets(), b"secret"))
    container.wake_ups.override(providers.Singleton(RecordedWakeUps))
    container.users.sessions.override(providers.Singleton(SessionsTwin, container.clock))
    container.users.session_cache.override(providers.Singleton(SessionCacheTwin))
    container.documents.runs.override(providers.Singleton(RunsTwin, container.documents.policy, container.clock))
    for module in (
        container.users,
        container.folders,
        container.documents,
        container.scans,
        container.products,
        container.webhooks,
    ):
        module.idempotency_keys.override(providers.Singleton(IdempotencyKeysTwin, container.clock))
    container.products.subscribers.override(())  # the relay works on the database's own time
    container.egress.override(providers.Singleton(EgressClient, to_the_internet))
    await migrate(container)  # unique indexes decide in mongomock too
    yield container
    container.unwire()


@pytest.fixture
async def http(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(container)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://dossier.test") as client,
    ):
        yield client


@pytest.fixture
def shop(http: httpx.AsyncClient) -> Service:
    """Another service."""
    return Service(http)


@pytest.fixture
async def ada(http: httpx.AsyncClient) -> Person:
    return await Person.registered(http, "ada@example.com")


@pytest.fixture
async def bob(http: httpx.AsyncClient) -> Person:
    """Somebody else."""
    return await Person.registered(http, "bob@example.com")
