"""When a run is taken from its worker, and when it is tried again. Seconds and counts."""

from dataclasses import dataclass

MAXIMUM_RUN_S = 600
TRIES = 5
WAIT_FOR_STORAGE_S = 24 * 3600
BACK_OFF_S, BACK_OFF_MAX_S, BACK_OFF_SPREAD = 5, 300, 0.2


@dataclass(frozen=True)
class RunPolicy:
    """`lease_s`: life of a claim without a sign of its worker; `interval_s`: how often lost work is looked for."""

    lease_s: float
    interval_s: float
    maximum_s: float = MAXIMUM_RUN_S
    tries: int = TRIES

    @property
    def beat_s(self) -> float:
        return min(1.0, self.lease_s / 3)


def back_off_s(repeats: int, spread: float) -> float:
    """Pause before the next attempt; `spread` is drawn from -1..1."""
    pause = float(min(BACK_OFF_S << min(repeats, 10), BACK_OFF_MAX_S))
    return pause * (1 + BACK_OFF_SPREAD * spread)
