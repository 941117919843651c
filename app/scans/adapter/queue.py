"""Wake-ups of scans through Celery."""

from app.scans.domain.scan import Scan
from core.celery import DELIVERIES, PIPELINES, WakeUps

LIST, DELIVER = "scans.list", "scans.deliver"


class CeleryScanQueue:
    """Listing only waits for the storage, so it never holds a parsing slot; sending is for those who may call out."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def list(self, scan: Scan) -> None:
        self._send(LIST, PIPELINES, scan)

    def deliver(self, scan: Scan) -> None:
        self._send(DELIVER, DELIVERIES, scan)

    def _send(self, task: str, queue: str, scan: Scan) -> None:
        self._wake_ups.send(task, (scan.id,), queue=queue, request_id=scan.request_id, trace=scan.trace)
