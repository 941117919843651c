"""What one periodic task looks up, and every worker adds up, is what /metrics of any API says; on real MongoDB."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.container import Container, build_container
from app.documents.adapter.mongo import DocumentRecord
from app.runtime import migrate
from app.snapshot import backlogs, take_snapshot
from app.webhooks.adapter.mongo_deliveries import WebhookDeliveryRecord
from core import metrics
from core.clock import utc_now
from core.config import load_settings
from core.ids import random_token
from core.local.stack import LocalServers
from core.measurements import Measurements

AGO = timedelta(seconds=300)


@pytest.fixture
async def container(servers: LocalServers, tmp_path: Path, signing_key: Path) -> AsyncIterator[Container]:
    settings = load_settings(
        "test", data_dir=tmp_path, mongo_url=servers.mongo_url, redis_url=servers.redis_url,
        mongo_db=f"t{random_token(48)}", jwt_private_keys=(str(signing_key),), storage_backend="local",
        private_tokens="x" * 40, scan_signing_secret="whsec_" + "eHh4" * 8,
    )  # fmt: skip
    container = build_container(settings, "worker")
    await migrate(container)
    yield container
    mongo = container.mongo()
    for name in await mongo.list_database_names():
        if name.startswith(settings.mongo_db):
            await mongo.drop_database(name)
    await mongo.close()
    await container.redis().aclose()


async def shown(container: Container) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of their labels."""
    text = (await container.measurements().exposition()).decode()
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def testbacklogs_are_counted_and_the_oldest_tells_its_age(container: Container) -> None:
    at = utc_now() - AGO
    run = {"state": "queued", "woken_at": utc_now(), "ready_at": at}
    late = {"state": "running", "token": "t", "locked_until": at, "started_at": at}
    documents: list[dict[str, Any]] = [
        {"_id": "doc_1", "status": "PROCESSING", "run": run, "outbox": [{"at": at}, {"at": utc_now()}]},
        {"_id": "doc_2", "status": "PROCESSING", "run": {**run, "ready_at": utc_now() + AGO}},
        {"_id": "doc_3", "status": "PROCESSING", "run": late},
        {"_id": "doc_4", "status": "UPLOADED", "run": {"state": None}},
    ]
    await DocumentRecord.get_pymongo_collection().insert_many(documents)
    delivery = {"_id": "d", "status": "FAILED", "created_at": at, "next_attempt_at": utc_now() + AGO}
    await WebhookDeliveryRecord.get_pymongo_collection().insert_one(delivery)

    await take_snapshot(container)

    found = await shown(container)
    assert {tuple(labels): items for (name, *labels), items in found.items() if name == "backlog_items" and items} == {
        ("queued_runs", "documents"): 2,
        ("running_runs", "documents"): 1,
        ("expired_leases", "documents"): 1,
        ("events", "documents"): 1,
        ("deliveries", "webhooks"): 1,
        ("undelivered", "webhooks"): 1,
    }
    for kind in ("queued_runs", "expired_leases", "events"):
        assert 299 < found["backlog_oldest_seconds", kind, "documents"] < 330, kind
    assert 299 < found["backlog_oldest_seconds", "undelivered", "webhooks"] < 330
    assert found["backlog_oldest_seconds", "deliveries", "webhooks"] == 0  # not due yet
    assert found["queue_messages", "documents"] == await container.redis().llen("documents")
    assert abs(found["snapshot_timestamp_seconds",] - utc_now().timestamp()) < 30


async def test_a_backlog_is_looked_up_by_its_index(container: Container) -> None:
    asked = list(backlogs(container.settings()))
    assert len(asked) > 10
    for module, record, backlog in asked:
        rows = record.get_pymongo_collection()
        plan = str(await rows.find(backlog.query).sort(backlog.order, 1).limit(10).explain())
        assert "IXSCAN" in plan, (module, backlog)
        assert "COLLSCAN" not in plan, (module, backlog)
        assert "'SORT'" not in plan, (module, backlog)


async def test_workers_of_several_machines_are_added_up(container: Container) -> None:
    rows = container.mongo()[f"{container.settings().mongo_db}_documents"]["metrics"]
    metrics.tasks.labels("documents.process", "ok").inc()
    one = metrics.counted()
    for _ in range(2):
        await Measurements(rows).add_counts()
    found = await shown(container)
    expected = one['["tasks_total", {"outcome": "ok", "task": "documents.process"}]']
    assert found["tasks_total", "ok", "workers", "documents.process"] == 2 * expected
