"""The broker, asked how much waits in it. Redis is asked by Redis' own client, any other through kombu."""

import asyncio
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.asyncio import Redis
from redis.exceptions import RedisError


class BrokerAway(Exception):
    """It does not answer: nobody knows what waits there."""


class Broker:
    """What readiness, the snapshot and the reconciler ask."""

    def __init__(self, celery: Callable[[], Celery], redis: Redis | None) -> None:
        """`redis` where that is the broker."""
        self._celery, self._redis = celery, redis

    async def waiting(self, *queues: str) -> list[int]:
        """Messages in each. Raises BrokerAway."""
        try:
            if self._redis is not None:
                return [int(await self._redis.llen(queue)) for queue in queues]
            return await asyncio.to_thread(self._counted, queues)
        except (RedisError, KombuError, OperationalError, OSError) as cause:
            raise BrokerAway from cause

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    def _counted(self, queues: tuple[str, ...]) -> list[int]:
        # One's own connection: they are asked every few seconds, and Celery's belong to its senders.
        with self._celery().connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            found = []
            for queue in queues:
                channel: Any = connection.channel()  # a queue that nobody has made yet closes it
                try:
                    found.append(int(channel.queue_declare(queue=queue, passive=True).message_count))
                except connection.channel_errors:
                    found.append(0)
            return found
