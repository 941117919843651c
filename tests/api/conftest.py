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
from core.security.ratelimit import Limiter, MemoryBuckets
from tests.clients import Person
from tests.idempotency_twin import IdempotencyKeysTwin
from tests.mongomock_client import MockClient
from tests.sessions_twin import SessionCacheTwin, SessionsTwin
from tests.twins import RunsTwin


class RecordedWakeUps:
    """Stands for the broker: remembers what would have been sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def send(self, task: str, args: tuple[Any, ...], *, queue: str, request_id: str) -> None:
        self.sent.append((task, *args))

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


@pytest.fixture
def settings(tmp_path: Path, signing_key: Path) -> Settings:
    return Settings(
        app_env="test",
        data_dir=tmp_path,
        mongo_url=SecretStr("mongodb://nowhere.invalid"),
        redis_url=SecretStr("redis://nowhere.invalid"),
        storage_backend="local",
        jwt_private_keys=(str(signing_key),),
        max_upload_bytes=2_000_000,
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
    for module in (container.users, container.folders, container.documents):
        module.idempotency_keys.override(providers.Singleton(IdempotencyKeysTwin, container.clock))
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
async def ada(http: httpx.AsyncClient) -> Person:
    return await Person.registered(http, "ada@example.com")


@pytest.fixture
async def bob(http: httpx.AsyncClient) -> Person:
    """Somebody else."""
    return await Person.registered(http, "bob@example.com")
