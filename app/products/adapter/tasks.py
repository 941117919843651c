"""Celery tasks of the products module."""

from collections.abc import Mapping
from datetime import timedelta

from core.config import Settings
from core.worker_process import Work

RELAY = "products.relay"


TASKS: Mapping[str, Work] = {RELAY: lambda container: container.products.relay().run()}


def schedule(settings: Settings) -> dict[str, timedelta]:
    return {RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds))}
