"""Celery tasks of the webhooks module: each calls one method."""

from collections.abc import Mapping
from datetime import timedelta

from app.webhooks.adapter.queue import DELIVER
from core.config import Settings
from core.worker_process import Work

RETRY, SEAL = "webhooks.retry", "webhooks.seal_anew"


TASKS: Mapping[str, Work] = {
    DELIVER: lambda container: container.webhooks.dispatch().run(),
    RETRY: lambda container: container.webhooks.dispatch().wake(),
    SEAL: lambda container: container.webhooks.service().seal_anew(),
}


def schedule(settings: Settings) -> dict[str, timedelta]:
    return {RETRY: timedelta(seconds=min(10.0, settings.reconcile_interval_seconds)), SEAL: timedelta(hours=1)}
