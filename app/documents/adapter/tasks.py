"""Celery tasks of the documents module: each takes ids, gets a service, calls one method."""

from datetime import timedelta
from typing import Any

from celery import Celery

from app.documents.adapter.queue import PROCESS
from core.config import Settings
from core.worker_process import WorkerProcess

RECONCILE, RELAY = "documents.reconcile", "documents.relay"
REMOVE_DELETED, REMOVE_ORPHANS = "documents.remove_deleted", "documents.remove_orphans"
SWEEP_UPLOADS = "documents.sweep_uploads"


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=PROCESS, bind=True)
    def run_attempt(task: Any, document_id: str, attempt: int) -> None:
        process.run(lambda container: container.documents.attempts().run(document_id, attempt), task)

    @celery.task(name=RECONCILE, bind=True)
    def reconcile(task: Any) -> None:
        process.run(lambda container: container.documents.upkeep().reconcile(), task)

    @celery.task(name=REMOVE_DELETED, bind=True)
    def remove_deleted(task: Any) -> None:
        process.run(lambda container: container.documents.upkeep().remove_deleted(), task)

    @celery.task(name=RELAY, bind=True)
    def relay(task: Any) -> None:
        process.run(lambda container: container.documents.relay().run(), task)

    @celery.task(name=REMOVE_ORPHANS, bind=True)
    def remove_orphans(task: Any) -> None:
        process.run(lambda container: container.documents.inspection().remove_orphans(), task)

    @celery.task(name=SWEEP_UPLOADS, bind=True)
    def sweep_uploads(task: Any) -> None:
        process.run(lambda container: container.documents.uploads().sweep(), task)


def schedule(settings: Settings) -> dict[str, timedelta]:
    """Periodic tasks and their intervals."""
    return {
        RECONCILE: timedelta(seconds=settings.reconcile_interval_seconds),
        RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds)),
        REMOVE_DELETED: timedelta(seconds=settings.reconcile_interval_seconds),
        REMOVE_ORPHANS: timedelta(hours=1),
        SWEEP_UPLOADS: timedelta(minutes=1),
    }
