"""Celery tasks of the products module."""

from datetime import timedelta
from typing import Any

from celery import Celery

from core.worker_process import WorkerProcess

RELAY = "products.relay"
SCHEDULE = {RELAY: timedelta(seconds=5)}


def register(celery: Celery, process: WorkerProcess) -> None:
    @celery.task(name=RELAY, bind=True)
    def relay(task: Any) -> None:
        process.run(lambda container: container.products.relay().run(), task)
