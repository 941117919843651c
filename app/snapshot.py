"""What waits, looked up once for all processes: the periodic task behind the gauges of /metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pymongo
from beanie import Document

from app.modules import selected
from core.broker import BrokerAway
from core.celery import QUEUES
from core.config import Settings
from core.mongo import NOW, Row
from core.relay import OPEN
from core.worker_process import Work

if TYPE_CHECKING:
    from app.container import Container

MOST, WITHIN_S = 10_000, 10.0
LATE: Row = {"run.state": "running", "$expr": {"$lt": ["$run.locked_until", NOW]}}


@dataclass(frozen=True)
class Backlog:
    """`order` is the key of the partial index that holds them; `since` says when one began to wait."""

    kind: str
    query: Row
    order: str
    since: str


EVENTS = Backlog("events", {"outbox.at": {"$exists": True}}, "outbox.at", "$outbox.at")
DELIVERIES = Backlog("deliveries", {"status": {"$in": list(OPEN)}}, "next_attempt_at", "$next_attempt_at")
OF_COLLECTIONS = {
    ("documents", "documents"): (
        Backlog("queued_runs", {"run.state": "queued"}, "run.woken_at", "$run.ready_at"),
        Backlog("running_runs", {"run.state": "running"}, "run.locked_until", "$run.started_at"),
        Backlog("expired_leases", LATE, "run.locked_until", "$run.locked_until"),
    ),
    ("webhooks", "deliveries"): (
        DELIVERIES,
        Backlog("undelivered", DELIVERIES.query, DELIVERIES.order, "$created_at"),
    ),
    ("scans", "scans"): (Backlog("scans", {"status": {"$in": ["PENDING", "RUNNING"]}}, "run.woken_at", "$created_at"),),
}


async def take_snapshot(container: "Container") -> None:
    """Repeating it does no harm; the newest stays."""
    gauges: list[tuple[str, dict[str, str], float]] = []
    with pymongo.timeout(WITHIN_S):
        for module, record, backlog in backlogs(container.settings()):
            items, seconds = await _look(record, backlog)
            labels = {"module": module, "kind": backlog.kind}
            gauges.append(("backlog_items", labels, items))
            gauges.append(("backlog_oldest_seconds", labels, seconds))
        gauges += await _queues(container)
        await container.measurements().keep_snapshot(gauges)


TASKS: Mapping[str, Work] = {"health.snapshot": take_snapshot}
SCHEDULE: Mapping[str, timedelta] = {"health.snapshot": timedelta(seconds=15)}


def backlogs(settings: Settings) -> Iterator[tuple[str, type[Document], Backlog]]:
    """What to look up where these modules run."""
    for module, found in selected(settings).items():
        for record in found.records():
            collection: Any = record.Settings
            known = OF_COLLECTIONS.get((module, collection.name), ())
            if collection.name == "deliveries" and not known:
                known = (DELIVERIES,)
            if any(index.document["name"] == "outbox" for index in getattr(collection, "indexes", ())):
                known = (*known, EVENTS)
            for backlog in known:
                yield module, record, backlog


async def _look(record: type[Document], backlog: Backlog) -> tuple[int, float]:
    """How many wait, and for how many seconds the oldest; one that is not due yet has not waited."""
    oldest = {"$min": {"$min": backlog.since}}  # of rows, and of the events in one
    cursor = await record.get_pymongo_collection().aggregate(
        [
            {"$match": backlog.query},
            {"$sort": {backlog.order: 1}},
            {"$limit": MOST},
            {"$group": {"_id": None, "items": {"$sum": 1}, "oldest": oldest}},
            {"$set": {"seconds": {"$divide": [{"$subtract": [NOW, "$oldest"]}, 1000]}}},
        ]
    )
    found = await cursor.to_list()
    return (found[0]["items"], max(found[0]["seconds"] or 0.0, 0.0)) if found else (0, 0.0)


async def _queues(container: "Container") -> list[tuple[str, dict[str, str], float]]:
    names = [container.settings().queue_prefix + name for name in QUEUES]
    try:
        found = await container.broker().waiting(*names)
    except BrokerAway:  # readiness tells of it
        return []
    return [("queue_messages", {"queue": name}, count) for name, count in zip(names, found, strict=True)]
