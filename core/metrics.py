"""Prometheus metrics of this process."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

registry = CollectorRegistry()

requests = Histogram(
    "http_request_duration_seconds",
    "Time to answer, by route template",
    ("method", "route", "status"),
    registry=registry,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
upload_bytes = Counter("upload_bytes_total", "Bytes of accepted uploads", registry=registry)
wakeups_dropped = Counter(
    "wakeups_dropped_total", "Wake-ups not sent; the reconciler makes up for them", registry=registry
)
rate_limit_fallbacks = Counter(
    "rate_limit_fallbacks_total", "Limits counted in this process because Redis did not answer", registry=registry
)
service_key_requests = Counter(
    "service_key_requests_total",
    "Calls of other services by key (first digits of its digest): silence says that it can go",
    ("key_id",),
    registry=registry,
)
session_ends_unseen = Counter(
    "session_ends_unseen_total",
    "Ended sessions that Redis could not be told of; others may believe them for a minute",
    registry=registry,
)

cache_reads = Counter("cache_reads_total", "Reads through the cache: hit or miss", ("outcome",), registry=registry)
cache_drops_unseen = Counter(
    "cache_drops_unseen_total",
    "Changes that Redis could not be told of; others may read old copies until CACHE_TTL_SECONDS are over",
    registry=registry,
)
catalog_key_switches = Counter(
    "catalog_key_switches_total", "Products refused one of PRODUCTS_API_KEY and took the other", registry=registry
)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    requests.labels(method, route, str(status)).observe(seconds)


def render() -> bytes:
    """The exposition format of all of them."""
    return generate_latest(registry)
