"""Celery tasks of the folders module: each takes ids, gets a service, calls one method."""

from collections.abc import Mapping
from datetime import timedelta

from app.folders.adapter.queue import ORDER_SCANS
from core.config import Settings
from core.worker_process import Work

RECONCILE, RELAY = "folders.reconcile", "folders.relay"


TASKS: Mapping[str, Work] = {
    ORDER_SCANS: lambda container, sync_id: container.folders.syncs().order(sync_id),
    RECONCILE: lambda container: container.folders.syncs().reconcile(),
    RELAY: lambda container: container.folders.relay().run(),
}


def schedule(settings: Settings) -> dict[str, timedelta]:
    return {
        RECONCILE: timedelta(seconds=settings.reconcile_interval_seconds),
        RELAY: timedelta(seconds=min(5.0, settings.reconcile_interval_seconds)),
    }
