"""Wake-ups of syncs through Celery."""

from app.folders.domain.sync import Sync
from core.celery import PERIODIC, WakeUps

ORDER_SCANS = "folders.order_scans"


class CelerySyncQueue:
    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def wake(self, sync: Sync) -> None:
        self._wake_ups.send(ORDER_SCANS, (sync.id,), queue=PERIODIC, request_id=sync.request_id, trace=sync.trace)
