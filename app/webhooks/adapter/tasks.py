"""Celery tasks of the webhooks module: each calls one method."""

from datetime import timedelta
from typing import Any

from celery import Celery

from app.webhooks.adapter.queue import DELIVER
from core.config import Settings
from core.worker_process import WorkerProcess

RETRY, SEAL = "webhooks.retry", "webhooks.seal_anew"


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=DELIVER, bind=True)
    def deliver(task: Any) -> None:
        process.run(lambda container: container.webhooks.dispatch().run(), task)

    @celery.task(name=RETRY, bind=True)
    def retry(task: Any) -> None:
        process.run(lambda container: container.webhooks.dispatch().wake(), task)

    @celery.task(name=SEAL, bind=True)
    def seal_anew(task: Any) -> None:
        process.run(lambda container: container.webhooks.service().seal_anew(), task)


def schedule(settings: Settings) -> dict[str, timedelta]:
    """Periodic tasks and their intervals."""
    return {
        RETRY: timedelta(seconds=min(10.0, settings.reconcile_interval_seconds)),
        SEAL: timedelta(hours=1),
    }
