"""The mock processor: reads nothing, takes its time, takes the same road as every other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

STEP_S = 0.25


def process(job: Any) -> Iterator[dict[str, Any]]:
    """Sleep `duration_seconds` in steps with progress; `fail` ends it half-way with `internal`."""
    duration, fail = float(job.options["duration_seconds"]), job.options["fail"]
    started = time.monotonic()
    end = started + (duration / 2 if fail else duration)
    while (now := time.monotonic()) < end:
        yield {"ev": "progress", "done": now - started, "total": duration}
        time.sleep(min(STEP_S, end - now))
    if fail:
        yield {"ev": "fatal", "code": "internal", "detail": "asked to fail"}
    else:
        yield {"ev": "result", "value": {"mock": True, "summary": f"Waited {duration:g} s and read nothing."}}
