"""A circuit breaker for coroutines: after failures in a row nothing is tried for a while, then one call at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

FAILURES = 5
OPEN_S, OPEN_MAX_S = 5.0, 30.0


class BreakerOpen(Exception):
    """Not tried."""


class Breaker:
    def __init__(self, clock: Callable[[], float], failure: type[Exception]) -> None:
        """`clock`: seconds; only a `failure` counts, and any other end of a call proves nothing."""
        self._clock, self._failure = clock, failure
        self._in_a_row, self._pause_s, self._closed_until, self._on_trial = 0, OPEN_S, 0.0, False

    @property
    def is_open(self) -> bool:
        return self._in_a_row >= FAILURES

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """One call. Raises BreakerOpen."""
        trial = self.is_open
        if trial and (self._on_trial or self._clock() < self._closed_until):
            raise BreakerOpen
        self._on_trial = trial
        try:
            yield
        except self._failure:
            self._failed(trial)
            raise
        else:
            self._in_a_row, self._pause_s = 0, OPEN_S
        finally:
            if trial:
                self._on_trial = False

    def _failed(self, trial: bool) -> None:
        was_open = self.is_open
        self._in_a_row += 1
        if trial:
            self._pause_s = min(2 * self._pause_s, OPEN_MAX_S)
        if trial or not was_open:  # calls that were under way when it opened prolong nothing
            self._closed_until = self._clock() + self._pause_s
