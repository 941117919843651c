"""Celery tasks of the folders module: each takes ids, gets a service, calls one method."""

from datetime import timedelta
from typing import Any

from celery import Celery

from app.folders.adapter.queue import ORDER_SCANS
from core.config import Settings
from core.worker_process import WorkerProcess

RECONCILE, RELAY = "folders.reconcile", "folders.relay"


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=ORDER_SCANS, bind=True)
    def order_scans(task: Any, sync_id: str) -> None:
        process.run(lambda container: container.folders.syncs().order(sync_id), task)

    @celery.task(name=RECONCILE, bind=True)
    def reconcile(task: Any) -> None:
        process.run(lambda container: container.folders.syncs().reconcile(), task)

    @celery.task(name=RELAY, bind=True)
    def relay(task: Any) -> None:
        process.run(lambda container: container.folders.relay().run(), task)


def schedule(settings: Settings) -> dict[str, timedelta]:
    """Periodic tasks and their intervals."""
    return {
        RECONCILE: timedelta(seconds=settings.reconcile_interval_seconds),
        RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds)),
    }
