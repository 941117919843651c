"""Wake-ups of scans through Celery."""

from typing import Any

from app.scans.domain.scan import Scan
from core.celery import DELIVERIES, PIPELINES, WakeUps

LIST, DELIVER = "scans.list", "scans.deliver"


class CeleryScanQueue:
    """Listing only waits for the storage, so it never holds a parsing slot; sending is for those who may call out."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def list(self, scan: Scan) -> None:
        self._send(LIST, PIPELINES, scan)

    def deliver(self, scan: Scan, after_s: float = 0) -> None:
        self._send(DELIVER, DELIVERIES, scan, after_s)

    def _send(self, task: str, queue: str, scan: Scan, after_s: float = 0) -> None:
        asked_by: dict[str, Any] = {"request_id": scan.request_id, "trace": scan.trace}
        self._wake_ups.send(task, (scan.id,), queue=queue, after_s=after_s, **asked_by)
