"""The circuit breaker on a clock of its own."""

from contextlib import suppress

import pytest

from app.inventory.adapter.breaker import FAILURES, Breaker, BreakerOpen


class Down(Exception): ...


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, Down)


def fail(breaker: Breaker, error: Exception | None = None) -> None:
    with suppress(Down, ValueError), breaker.guarding():
        raise error or Down


def is_tried(breaker: Breaker) -> bool:
    with suppress(BreakerOpen), breaker.guarding():
        return True
    return False


def test_it_opens_after_failures_in_a_row_and_closes_after_a_success(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES - 1):
        fail(breaker)
    assert is_tried(breaker)  # a success starts the count anew
    for _ in range(FAILURES):
        assert not breaker.is_open
        fail(breaker)
    assert breaker.is_open
    assert not is_tried(breaker)
    clock.now = 4.9
    assert not is_tried(breaker)
    clock.now = 5
    assert is_tried(breaker)
    assert not breaker.is_open


def test_other_errors_prove_nothing(breaker: Breaker) -> None:
    for _ in range(2 * FAILURES):
        fail(breaker, ValueError())
    assert not breaker.is_open


def test_pauses_double_up_to_half_a_minute(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES):
        fail(breaker)
    for pause in (5, 10, 20, 30, 30):
        clock.now += pause - 0.1
        assert not is_tried(breaker)
        clock.now += 0.1
        fail(breaker)


def test_there_is_one_trial_at_a_time_and_one_that_is_cut_off_makes_room(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES):
        fail(breaker)
    clock.now = 5
    with suppress(ValueError), breaker.guarding():
        assert not is_tried(breaker)
        raise ValueError
    assert breaker.is_open
    assert is_tried(breaker)


def test_calls_under_way_when_it_opens_prolong_nothing(breaker: Breaker, clock: Clock) -> None:
    late = breaker.guarding()
    late.__enter__()
    for _ in range(FAILURES):
        fail(breaker)
    clock.now = 4
    with suppress(Down):
        late.__exit__(Down, Down(), None)
    clock.now = 5
    assert is_tried(breaker)
