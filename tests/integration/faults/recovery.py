"""How soon the system brings back what a fault took, apart from the work: waiting for a free worker is work.

Brought back is a run whose wake-up Redis has taken, which was claimed, or which was given up with its code.
`run.woken_at` alone would not do: it is written before the wake-up is sent, and Redis may refuse that. Everything is
read from logs and rows after the fact, so that a poll on a busy machine does not blur it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.integration.faults.process import INTERVAL_S, LEASE_S
from tests.integration.faults.stage import Stage

TARGET_S = LEASE_S + 2 * INTERVAL_S
SLACK_S = 0.5  # beat ticks once a second, give or take; control's one child may be at the relay or at sweeping by then


@dataclass(frozen=True)
class Loss:
    """From `at` on, the fault over or its dependency back, the system owed a document this attempt or a later one."""

    document_id: str
    attempt: int
    at: datetime


def now() -> datetime:
    return datetime.now(UTC)


def moment(event: dict[str, Any]) -> datetime:
    """When a process logged this."""
    return datetime.fromisoformat(event["ts"])


async def assert_brought_back(stage: Stage, losses: Iterable[Loss], slack_s: float = SLACK_S) -> float:
    """The longest that a run was left alone, in seconds; for when all is over."""
    found = defaultdict(list)
    for event in stage.logged("wakeup_sent"):
        found[event["document_id"]].append((event["attempt"], datetime.fromisoformat(event["asked_at"])))
    for event in stage.logged("process_started"):
        found[event["document_id"]].append((event["attempt"], moment(event)))
    seconds = []
    for loss in losses:
        back = [at for attempt, at in found[loss.document_id] if attempt >= loss.attempt and at >= loss.at]
        ended = (await stage.row(loss.document_id))["run"]["finished_at"]
        if ended >= loss.at:
            back.append(ended)
        assert back, f"never brought back: {loss}"
        seconds.append((min(back) - loss.at).total_seconds())
    assert seconds, "the fault hit no run"
    longest = max(seconds)
    assert longest <= TARGET_S + slack_s, f"brought back after {longest:.1f} s, the target is {TARGET_S} s"
    return round(longest, 1)
