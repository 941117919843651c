"""Wake-ups of processing through Celery."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.documents.domain.ports import WakeUp
from app.documents.domain.processors import ProcessorRegistry
from core.celery import DOCUMENTS, PIPELINES, WakeUps

PROCESS = "documents.process"
SLOW_S = 60


class CeleryProcessingQueue:
    """Slow processors of other packages have a queue of their own, so that waiting never holds a parsing slot."""

    def __init__(self, wake_ups: WakeUps, registry: ProcessorRegistry, redis: Redis) -> None:
        self._wake_ups, self._registry, self._redis = wake_ups, registry, redis

    def wake(self, wake_up: WakeUp) -> None:
        task = (wake_up.document_id, wake_up.attempt)
        self._wake_ups.send(PROCESS, task, queue=self._queue_of(wake_up.processor), request_id=wake_up.request_id)

    async def backlog(self) -> int:
        try:
            return sum([int(await self._redis.llen(queue)) for queue in (DOCUMENTS, PIPELINES)])
        except RedisError:
            return 0

    def _queue_of(self, name: str) -> str:
        processor = self._registry.find(name)
        slow = processor is not None and processor.site is not None and processor.limits.wall_s > SLOW_S
        return PIPELINES if slow else DOCUMENTS
