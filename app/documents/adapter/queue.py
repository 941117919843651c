"""Wake-ups of processing through Celery."""

from typing import Any

from app.documents.domain.ports import WakeUp
from app.documents.domain.processors import ProcessorRegistry
from core.broker import Broker, BrokerAway
from core.celery import DOCUMENTS, PIPELINES, WakeUps

PROCESS = "documents.process"
SLOW_S = 60


class CeleryProcessingQueue:
    """Slow processors of other packages have a queue of their own, so that waiting never holds a parsing slot."""

    def __init__(self, wake_ups: WakeUps, registry: ProcessorRegistry, broker: Broker) -> None:
        self._wake_ups, self._registry, self._broker = wake_ups, registry, broker

    def wake(self, wake_up: WakeUp) -> None:
        task = (wake_up.document_id, wake_up.attempt)
        asked_by: dict[str, Any] = {"request_id": wake_up.request_id, "trace": wake_up.trace}
        self._wake_ups.send(PROCESS, task, queue=self._queue_of(wake_up.processor), **asked_by)

    async def backlog(self) -> int:
        try:
            return sum(await self._broker.waiting(DOCUMENTS, PIPELINES))
        except BrokerAway:
            return 0

    def _queue_of(self, name: str) -> str:
        processor = self._registry.find(name)
        slow = processor is not None and processor.site is not None and processor.limits.wall_s > SLOW_S
        return PIPELINES if slow else DOCUMENTS
