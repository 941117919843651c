"""Wake-ups of processing through Celery."""

from app.documents.domain.ports import WakeUp
from core.celery import WakeUps

PROCESS = "documents.process"


class CeleryProcessingQueue:
    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def wake(self, wake_up: WakeUp) -> None:
        self._wake_ups.send(
            PROCESS, (wake_up.document_id, wake_up.attempt), queue="documents", request_id=wake_up.request_id
        )
