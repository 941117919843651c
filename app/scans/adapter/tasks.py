"""Celery tasks of the scans module: each takes an id, gets a service, calls one method."""

from datetime import timedelta
from typing import Any

from celery import Celery

from app.scans.adapter.queue import DELIVER, LIST
from core.config import Settings
from core.worker_process import WorkerProcess

RECONCILE = "scans.reconcile"


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=LIST, bind=True)
    def list_sources(task: Any, scan_id: str) -> None:
        process.run(lambda container: container.scans.lister().run(scan_id), task)

    @celery.task(name=DELIVER, bind=True)
    def deliver(task: Any, scan_id: str) -> None:
        process.run(lambda container: container.scans.sender().run(scan_id), task)

    @celery.task(name=RECONCILE, bind=True)
    def reconcile(task: Any) -> None:
        process.run(lambda container: container.scans.service().reconcile(), task)


def schedule(settings: Settings) -> dict[str, timedelta]:
    """Periodic tasks and their intervals."""
    return {RECONCILE: timedelta(seconds=settings.reconcile_interval_seconds)}
