"""Redis: quick to give up, since it only remembers and counts."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def make_redis(url: str) -> Redis:
    """A client that has not connected yet. Without `retry` redis-py repeats three times by itself."""
    return Redis.from_url(url, socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0))
