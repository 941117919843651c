"""Celery tasks of the inventory module: each gets a service, calls one method."""

from datetime import timedelta
from typing import Any

import structlog
from celery import Celery

from app.inventory.adapter.verifying import differences
from core.config import Settings
from core.worker_process import WorkerProcess

log = structlog.get_logger("inventory")

EXPIRE, RELAY = "inventory.expire_reservations", "inventory.relay"
WALK, VERIFY = "inventory.walk_catalog", "inventory.verify"


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=EXPIRE, bind=True)
    def expire_reservations(task: Any) -> None:
        process.run(lambda container: container.inventory.reservation_service().expire_due(), task)

    @celery.task(name=RELAY, bind=True)
    def relay(task: Any) -> None:
        process.run(lambda container: container.inventory.relay().run(), task)

    @celery.task(name=WALK, bind=True)
    def walk_catalog(task: Any) -> None:
        process.run(lambda container: container.inventory.products().walk(), task)

    @celery.task(name=VERIFY, bind=True)
    def verify(task: Any) -> None:
        process.run(_verify, task)


def schedule(settings: Settings) -> dict[str, timedelta]:
    """Periodic tasks and their intervals."""
    return {
        EXPIRE: timedelta(seconds=15),
        RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds)),
        WALK: timedelta(days=1),
        VERIFY: timedelta(days=1),
    }


async def _verify(_: Any) -> None:
    async for difference in differences():
        if difference is not None:
            log.error("stock_mismatch", **difference)
