"""What is counted of what happens: each line of the log that tells of it counts once, whatever LOG_LEVEL shows."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from prometheus_client import Counter, Histogram

from core.metrics import problems, registry, upload_bytes

attempts = Counter(
    "attempts_total",
    "Attempts to process a document, by how they ended; `code` where they failed for good",
    ("outcome", "code"),
    registry=registry,
)
attempt_seconds = Histogram(
    "attempt_seconds",
    "Time from claim to end of an attempt",
    ("outcome",),
    registry=registry,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
leases_expired = Counter(
    "leases_expired_total", "Runs whose worker fell silent: freed for another, or ended", ("then",), registry=registry
)
webhook_attempts = Counter(
    "webhook_attempts_total", "Attempts to deliver, by what became of the delivery", ("outcome",), registry=registry
)
events_exhausted = Counter(
    "events_exhausted_total", "Events that a subscriber failed to take ten times", registry=registry
)
security_events = Counter("security_events_total", "Sign-ins, ends of sessions, refusals", ("name",), registry=registry)
for each in ("freed", "ended"):
    leases_expired.labels(each)
for each in ("DELIVERED", "FAILED", "EXHAUSTED"):
    webhook_attempts.labels(each)


def _ended(outcome: str) -> Callable[..., None]:
    def count(*, seconds: float | None = None, code: str = "", **_: Any) -> None:
        attempts.labels(outcome, code).inc()
        if seconds is not None:
            attempt_seconds.labels(outcome).observe(seconds)

    return count


def _uploaded(*, size: int, **_: Any) -> None:
    upload_bytes.inc(size)


def _reconciled(*, ended: int, freed: int, **_: Any) -> None:
    leases_expired.labels("ended").inc(ended)
    leases_expired.labels("freed").inc(freed)


def _webhook_attempt(*, outcome: str, **_: Any) -> None:
    webhook_attempts.labels(outcome).inc()


def _security(*, name: str, **_: Any) -> None:
    security_events.labels(name).inc()


COUNTED: Mapping[str, Callable[..., None]] = MappingProxyType(
    {
        "uploaded": _uploaded,
        "process_completed": _ended("completed"),
        "process_failed": _ended("failed"),
        "process_postponed": _ended("postponed"),
        "process_error": _ended("broken"),
        "process_lost": _ended("lost"),
        "reconciled": _reconciled,
        "webhook_attempt": _webhook_attempt,
        "event_exhausted": lambda **_: events_exhausted.inc(),
        "security": _security,
    }
)


def count_line(level: str, line: Mapping[str, Any]) -> None:
    """For `configure_logging`: one of our own lines."""
    if level in ("warning", "error"):
        problems.labels(level, line["event"]).inc()
    if line["event"] in COUNTED:
        COUNTED[line["event"]](**{key: value for key, value in line.items() if key != "event"})
