"""Redis: quick to give up, since it only remembers and counts."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def make_redis(url: str) -> Redis:
    """A client that has not connected yet. Without `retry` redis-py repeats three times by itself.

    A crowd waits for one of a few connections: redis-py's usual pool would refuse it with an error, and to open one
    for each would take longer than what they came for.
    """
    pool = BlockingConnectionPool.from_url(
        url, max_connections=32, timeout=0.5,
        socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0),
    )  # fmt: skip
    return Redis.from_pool(pool)
