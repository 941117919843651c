"""Prometheus metrics: what this process counts, and what /metrics says for all (docs/decisions/0007)."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

SUFFIXES = ("_total", "_bucket", "_sum", "_count")

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

problems = Counter(
    "log_problems_total", "Lines of the log that are warnings or errors", ("level", "event"), registry=registry
)
tasks = Counter("tasks_total", "Celery tasks that ended: ok or failed", ("task", "outcome"), registry=registry)

# Of what an API process has only so many. One behind the same port is read from the files of all of them.
places_in_use = Gauge(
    "places_in_use",
    "How many of `places` are taken: requests, uploads, connections to mongo and redis",
    ("of",),
    registry=registry,
    multiprocess_mode="livesum",
)
places = Gauge("places", "How many there are", ("of",), registry=registry, multiprocess_mode="livesum")

# What one process looks up for all of them, and any API process shows.
GAUGES: Mapping[str, str] = MappingProxyType(
    {
        "snapshot_up": "Whether MongoDB answered in time; 0 leaves out everything that comes from it",
        "snapshot_timestamp_seconds": "When the backlogs were last looked up",
        "backlog_items": "Rows that wait, by module and kind; no more than 10,000 are counted",
        "backlog_oldest_seconds": "How long the oldest of them had been waiting when they were looked up",
        "queue_messages": "Wake-ups that wait in the broker, by queue",
    }
)
Counts = Mapping[str, float]
Gauges = Iterable[tuple[str, Mapping[str, str], float]]


def is_one_of_many() -> bool:
    """Whether other processes listen on the same port."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def observe_places(found: Mapping[str, tuple[float, float]]) -> None:
    """By name how many are taken and how many there are."""
    for of, (taken, most) in found.items():
        places_in_use.labels(of).set(taken)
        places.labels(of).set(most)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    _requests_of(method, route, status).observe(seconds)


@lru_cache(4096)
def _requests_of(method: str, route: str, status: int) -> Histogram:
    return requests.labels(method, route, str(status))


def counted() -> dict[str, float]:
    """What this process has counted since it started, by series."""
    return {
        json.dumps([sample.name, sample.labels], sort_keys=True): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith(SUFFIXES)
    }


def render(counts: Counts, gauges: Gauges) -> bytes:
    """The exposition format: this API's own, `counts` of all workers beside them, and what was looked up."""
    whole = CollectorRegistry()
    whole.register(_Whole(counts, gauges))
    return generate_latest(whole)


class _Whole(Collector):
    def __init__(self, counts: Counts, gauges: Gauges) -> None:
        self._counts, self._gauges = counts, gauges

    def collect(self) -> Iterator[Metric]:
        families = {family.name: family for family in registry.collect()}
        if is_one_of_many():  # the sums over the processes behind this port
            _forget_the_dead(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
            summed = {family.name: family for family in MultiProcessCollector(None).collect()}  # type: ignore[no-untyped-call]
            for name, family in families.items():
                family.samples = summed[name].samples if name in summed else []
        for family in families.values():
            if family.type != "gauge":
                family.samples = [sample for sample in family.samples if sample.name.endswith(SUFFIXES)]
        owners = {name + suffix: family for name, family in families.items() for suffix in SUFFIXES}
        for series, value in self._counts.items():
            sample, labels = json.loads(series)
            if sample in owners:  # or a worker of another version counts it
                owners[sample].add_sample(sample, {**labels, "service": "workers"}, value)
        yield from families.values()
        shown = {name: GaugeMetricFamily(name, text) for name, text in GAUGES.items()}
        for name, labels, value in self._gauges:
            shown[name].add_sample(name, dict(labels), value)
        yield from shown.values()


def _forget_the_dead(folder: Path) -> None:
    """A process that was killed holds nothing any more."""
    for file in folder.glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
