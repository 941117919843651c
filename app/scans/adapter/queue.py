"""Wake-ups of scans through Celery."""

from app.scans.domain.scan import Scan
from core.celery import DELIVERIES, PIPELINES, WakeUps

LIST, DELIVER = "scans.list", "scans.deliver"


class CeleryScanQueue:
    """Listing only waits for the storage, so it never holds a parsing slot; sending is for those who may call out."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def list(self, scan: Scan) -> None:
        self._wake_ups.send(LIST, (scan.id,), queue=PIPELINES, request_id=scan.request_id)

    def deliver(self, scan: Scan) -> None:
        self._wake_ups.send(DELIVER, (scan.id,), queue=DELIVERIES, request_id=scan.request_id)
