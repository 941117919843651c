"""Celery tasks of the scans module: each takes an id, gets a service, calls one method."""

from collections.abc import Mapping
from datetime import timedelta

from app.scans.adapter.queue import DELIVER, LIST
from core.config import Settings
from core.worker_process import Work

RECONCILE = "scans.reconcile"


TASKS: Mapping[str, Work] = {
    LIST: lambda container, scan_id: container.scans.lister().run(scan_id),
    DELIVER: lambda container, scan_id: container.scans.sender().run(scan_id),
    RECONCILE: lambda container: container.scans.service().reconcile(),
}


def schedule(settings: Settings) -> dict[str, timedelta]:
    return {RECONCILE: timedelta(seconds=settings.reconcile_interval_seconds)}
