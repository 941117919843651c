"""A host application and a scan service with databases and a prefix of its own on the shared servers."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from app.container import Container, build_container
from app.runtime import migrate, running
from core.config import load_settings
from core.ids import random_token
from core.local.stack import LocalServers
from tests.api.conftest import RecordedWakeUps
from tests.clients import PRIVATE_TOKEN, SIGNING_SECRET
from tests.integration.faults.process import INTERVAL_S, LEASE_S
from tests.integration.scans.host import Host, host_running

Put = Callable[..., Any]


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with host_running() as host:
        yield host


@pytest.fixture
def env(servers: LocalServers, host: Host, tmp_path: Path) -> dict[str, str]:
    """Settings of a scan service alone, as its processes read them."""
    return {
        "APP_ENV": "local",
        "APP_MODULES": "scans",
        "DATA_DIR": str(tmp_path / "data"),
        "MONGO_URL": servers.mongo_url,
        "MONGO_DB": f"s{random_token(48)}",
        "REDIS_URL": servers.redis_url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url,
        "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
        "PRIVATE_TOKENS": PRIVATE_TOKEN,
        "SCAN_SIGNING_SECRET": SIGNING_SECRET,
        "SCAN_CALLBACKS": f'{{"default": "{host.url}"}}',
        "SCAN_ALLOWED_BUCKETS": f"{servers.s3_bucket},missing-bucket",
        "WEBHOOK_RETRY_SCHEDULE": "0,0.2,0.2,0.2,0.2,0.2",
        "PROCESSING_LEASE_SECONDS": str(LEASE_S),
        "RECONCILE_INTERVAL_SECONDS": str(INTERVAL_S),
        "LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        "REMAP_SIGTERM": "SIGQUIT",
    }


@pytest.fixture
async def container(env: dict[str, str]) -> AsyncIterator[Container]:
    """In the test's own process; wake-ups are only written down."""
    settings = load_settings("local", **{name.lower(): value for name, value in env.items()})
    container = build_container(settings, "worker")
    container.wake_ups.override(providers.Singleton(RecordedWakeUps))
    async with running(container):
        await migrate(container)
        yield container
        await container.mongo().drop_database(f"{settings.mongo_db}_scans")


@pytest.fixture
def prefix() -> str:
    """A place in the bucket that only this test uses."""
    return f"{random_token(48)}/"


@pytest.fixture
async def put(container: Container, prefix: str) -> Put:
    """Stores small objects under the prefix."""

    async def some(names: list[str]) -> None:
        for name in names:
            await container.files().put(prefix + name, io.BytesIO(b"%PDF"), "application/pdf")

    async def stored(*names: str) -> None:
        await asyncio.gather(*(some(list(names[start::12])) for start in range(12)))

    return stored
