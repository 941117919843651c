"""Celery tasks of the products module."""

from datetime import timedelta
from typing import Any

from celery import Celery

from core.config import Settings
from core.worker_process import WorkerProcess

RELAY = "products.relay"


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=RELAY, bind=True)
    def relay(task: Any) -> None:
        process.run(lambda container: container.products.relay().run(), task)


def schedule(settings: Settings) -> dict[str, timedelta]:
    """Periodic tasks and their intervals."""
    return {RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds))}
