"""A stage for each test, and the table of what the faults did."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect

from app.runtime import migrate, running
from core.config import load_settings
from core.ids import random_token
from core.local.folder import open_folder
from core.local.stack import LocalServers
from tests.integration.faults import mutated
from tests.integration.faults.process import INTERVAL_S, LEASE_S
from tests.integration.faults.stage import Stage

MODULES = ("users", "folders", "documents")
TABLES = {
    "fault": {"fault": 20, "accepted": 10, "lost": 6, "twice": 7, "recovery_s": 12, "total_s": 9, "remarks": 0},
    "mutant": {"test": 20, "mutant": 32, "caught": 0},
}


@pytest.fixture
async def stage(servers: LocalServers, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Databases of its own on the shared servers; no process runs yet."""
    env = {
        "APP_ENV": "local",
        "APP_MODULES": "users,folders,documents",  # those of others have their own fault tests
        "DATA_DIR": str(tmp_path / "data"),
        "MONGO_URL": servers.mongo_url,
        "MONGO_DB": f"f{random_token(48)}",
        "REDIS_URL": servers.redis_url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url,
        "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
        "PROCESSING_LEASE_SECONDS": str(LEASE_S),
        "RECONCILE_INTERVAL_SECONDS": str(INTERVAL_S),
        "LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        "REMAP_SIGTERM": "SIGQUIT",
    }
    settings = load_settings("local", **{name.lower(): value for name, value in env.items() if name.isupper()})
    container = mutated.build(settings, "api")
    made = Stage(servers, open_folder(tmp_path), env, container)
    async with running(container):
        await migrate(container)
        await container.files().put(made.original, io.BytesIO(b"%PDF-1.7"), "application/pdf")
        await container.redis().flushall()
        request.node.user_properties.append(("fault", made.told))
        try:
            yield made
        finally:
            made.end()
        client = container.mongo()
        with pymongo.timeout(60):
            await asyncio.gather(*(_dropped(client, f"{settings.mongo_db}_{module}") for module in MODULES))


async def _dropped(client: Any, name: str) -> None:
    """The driver does not repeat this by itself, and gives connections up when the machine is very busy."""
    for _ in range(3):
        with suppress(AutoReconnect):
            await client.drop_database(name)
            return
    await client.drop_database(name)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per fault: how many were promised, lost, applied twice; seconds until all was brought back, where
    something was taken, and of the whole test. One per mutant."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    found = [pair for report in reports for pair in report.user_properties]
    for table, columns in TABLES.items():
        rows = [row for name, row in found if name == table and next(iter(columns)) in row]
        if rows:
            terminalreporter.write_sep("-", f"{table}s")
            terminalreporter.write_line("".join(name.ljust(width) for name, width in columns.items()))
        for row in sorted(rows, key=str):
            terminalreporter.write_line("".join(str(row.get(name, "")).ljust(width) for name, width in columns.items()))
