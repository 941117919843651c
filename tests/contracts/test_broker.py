"""Wake-ups through Redis, and through a broker that is none: kombu's own, in memory."""

import asyncio
from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from core.broker import Broker, BrokerAway
from core.celery import DOCUMENTS, PIPELINES, WakeUps, make_celery
from core.ids import random_token
from core.local.stack import LocalServers
from core.redis import make_redis

PREFIX = f"{random_token(48)}."  # the broker is everybody's
MINE = PREFIX + DOCUMENTS


@pytest.fixture(params=["redis", "memory"])
def url(request: pytest.FixtureRequest, servers: LocalServers) -> str:
    return servers.redis_url if request.param == "redis" else "memory://"


@pytest.fixture
def celery(url: str) -> Iterator[Celery]:
    made = make_celery(url, in_worker=False)
    yield made
    if url != "memory://":
        with Redis.from_url(url) as redis:
            redis.delete(MINE)
    made.close()


@pytest.fixture
def broker(url: str, celery: Celery) -> Broker:
    return Broker(lambda: celery, None if url == "memory://" else make_redis(url))


async def test_a_wake_up_arrives(celery: Celery, broker: Broker) -> None:
    assert await broker.waiting(MINE, PREFIX + PIPELINES) == [0, 0]
    dropped: list[None] = []
    wake_ups = WakeUps(celery, PREFIX, dropped=lambda: dropped.append(None))
    wake_ups.send("documents.process", ("doc_1", 1), queue=DOCUMENTS, request_id="req_12345678")
    async with asyncio.timeout(10):
        while sum(await broker.waiting(MINE)) == 0:
            await asyncio.sleep(0.01)
    assert await broker.waiting(MINE, PREFIX + PIPELINES) == [1, 0]
    assert dropped == []
    with celery.connection_for_read() as connection, connection.SimpleQueue(MINE) as queue:
        message = queue.get(timeout=5)
        assert message.headers["task"] == "documents.process"
        assert message.payload[0] == ["doc_1", 1]
        message.ack()
    assert await broker.waiting(MINE) == [0]
    wake_ups.close()
    await broker.close()


@pytest.mark.parametrize("away", ["redis://127.0.0.1:9/0", "amqp://127.0.0.1:9//"])
async def test_one_that_is_away_is_told_of(away: str) -> None:
    celery = make_celery(away, in_worker=False)
    broker = Broker(lambda: celery, make_redis(away) if away.startswith("redis") else None)
    with pytest.raises(BrokerAway):
        await broker.waiting(MINE)
    await broker.close()
    celery.close()


def test_options_of_redis_are_for_redis() -> None:
    assert "visibility_timeout" in make_celery("rediss://x", in_worker=True).conf.broker_transport_options
    assert make_celery("amqp://x", in_worker=True).conf.broker_transport_options == {}
