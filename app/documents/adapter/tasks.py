"""Celery tasks of the documents module: each takes ids, gets a service, calls one method."""

from collections.abc import Mapping
from datetime import timedelta

from app.documents.adapter.queue import PROCESS
from core.config import Settings
from core.worker_process import Work

RECONCILE, RELAY = "documents.reconcile", "documents.relay"
REMOVE_DELETED, REMOVE_ORPHANS = "documents.remove_deleted", "documents.remove_orphans"
SWEEP_UPLOADS = "documents.sweep_uploads"


TASKS: Mapping[str, Work] = {
    PROCESS: lambda container, document_id, attempt: container.documents.attempts().run(document_id, attempt),
    RECONCILE: lambda container: container.documents.upkeep().reconcile(),
    REMOVE_DELETED: lambda container: container.documents.upkeep().remove_deleted(),
    RELAY: lambda container: container.documents.relay().run(),
    REMOVE_ORPHANS: lambda container: container.documents.inspection().remove_orphans(),
    SWEEP_UPLOADS: lambda container: container.documents.uploads().sweep(),
}


def schedule(settings: Settings) -> dict[str, timedelta]:
    return {
        RECONCILE: timedelta(seconds=settings.reconcile_interval_seconds),
        RELAY: timedelta(seconds=min(1.0, settings.reconcile_interval_seconds)),  # of what the API did
        REMOVE_DELETED: timedelta(seconds=settings.reconcile_interval_seconds),
        REMOVE_ORPHANS: timedelta(hours=1),
        SWEEP_UPLOADS: timedelta(minutes=1),
    }
