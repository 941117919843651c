"""Repositories on real MongoDB, each test in databases of its own, and on mongomock with the twins."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.documents.adapter import mongo as documents_mongo
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.domain.ports import Runs
from app.documents.domain.run_policy import RunPolicy
from app.folders.adapter import mongo as folders_mongo
from app.products.adapter import mongo as products_mongo
from app.users.adapter import mongo as users_mongo
from app.users.adapter.mongo import MongoSessions
from app.users.domain.ports import Sessions
from app.webhooks.adapter import mongo as webhooks_mongo
from core.clock import utc_now
from core.ids import random_token
from core.local.stack import LocalServers
from core.mongo import init_records, make_client
from tests.mongomock_client import MockClient
from tests.sessions_twin import SessionsTwin
from tests.twins import RunsTwin

RECORDS = {
    "users": users_mongo.RECORDS,
    "folders": folders_mongo.RECORDS,
    "documents": documents_mongo.RECORDS,
    "products": products_mongo.RECORDS,
    "webhooks": webhooks_mongo.RECORDS,
}


@pytest.fixture(params=["mongodb", "mongomock"])
async def database(request: pytest.FixtureRequest, servers: LocalServers) -> AsyncIterator[str]:
    """Which kind of database the records are bound to."""
    kind: str = request.param
    client: Any = make_client(servers.mongo_url, in_worker=False) if kind == "mongodb" else MockClient()
    prefix = f"t{random_token(48)}"
    await init_records(client, prefix, RECORDS, build_indexes=True)
    yield kind
    if kind == "mongodb":
        await asyncio.gather(*(client.drop_database(f"{prefix}_{module}") for module in RECORDS))
    await client.close()


@pytest.fixture
def policy() -> RunPolicy:
    return RunPolicy(lease_s=0.4, interval_s=0.2, maximum_s=1.0, tries=3)


@pytest.fixture
def runs(database: str, policy: RunPolicy) -> Runs:
    return MongoRuns(policy) if database == "mongodb" else RunsTwin(policy, utc_now)


@pytest.fixture
def sessions(database: str) -> Sessions:
    return MongoSessions() if database == "mongodb" else SessionsTwin(utc_now)
