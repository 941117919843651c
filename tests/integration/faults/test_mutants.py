"""A test that its mutant passes proves nothing: each is run with the fault it is there to find.

The default run has the quick ones; `make mutants` has all and prints them.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.integration.faults.mutants import MUTANTS
from tests.integration.faults.stage import Stage
from tests.integration.faults.test_events import event_atomicity, late_commit
from tests.integration.faults.test_messages import duplicate_message, enqueue_gap, parallel_process, redis_flush
from tests.integration.faults.test_stale_copies import stale_save
from tests.integration.faults.test_stores import redis_down_accept, s3_down, unknown_outcome
from tests.integration.faults.test_workers import child_kill, poison, worker_process, zombie

pytestmark = pytest.mark.timeout(600)

PATIENCE = 3  # a mutant ends most tests by letting them wait


@dataclass(frozen=True)
class Case:
    """`seen_by`: what the failure has to say, so that it is not caught by accident."""

    test: Callable[[Stage], Awaitable[None]]
    mutant: str
    seen_by: str
    quick: bool = False


ENDS = "every accepted document is COMPLETED or FAILED"
CASES = (
    Case(enqueue_gap, "nobody-is-woken", ENDS),
    Case(redis_flush, "woken-only-once", f"{ENDS}|documents are done"),
    Case(redis_down_accept, "publish-in-the-handler", "an answer took|/health took"),
    Case(child_kill, "dead-are-not-freed", ENDS),
    Case(zombie, "fence-without-token", "every zombie was refused|no zombie applied"),
    Case(zombie, "fence-by-id", "every zombie was refused|no zombie applied"),
    Case(poison, "tries-not-counted", ENDS),
    Case(unknown_outcome, "error-means-no", "one attempt each"),
    Case(unknown_outcome, "error-makes-a-new-token", "one attempt each"),
    Case(unknown_outcome, "error-requeues", "applied twice|one attempt each"),
    Case(s3_down, "postpone-counts-a-try", "not counted as a try"),
    Case(parallel_process, "status-read-first", "the same attempt", quick=True),
    Case(duplicate_message, "claim-takes-any-state", "starts of"),
    Case(event_atomicity, "event-after-the-update", "no final event"),
    Case(late_commit, "relay-polls-by-time", "committed late", quick=True),
    Case(worker_process, "loop-per-task", ENDS),
    Case(worker_process, "child-lives-without-container", "no message vanished"),
    Case(stale_save, "save-in-the-repository", "stale copy|changed the document", quick=True),
)
CHOSEN = CASES if os.environ.get("FAULTS") == "mutants" else [case for case in CASES if case.quick]


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: f"{case.test.__name__}-{case.mutant}")
async def test_a_mutant_is_caught(
    case: Case, stage: Stage, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    stage.patience = PATIENCE
    stage.switch(case.mutant)
    MUTANTS[case.mutant](monkeypatch.setattr)
    row = {"test": case.test.__name__, "mutant": case.mutant, "caught": "no"}
    record_property("mutant", row)
    with pytest.raises(AssertionError) as failure:
        await case.test(stage)
    stage.told.clear()
    said = str(failure.value)
    assert any(words in said for words in case.seen_by.split("|")), f"seen by accident: {said}"
    row["caught"] = "yes: " + said.splitlines()[0][:80]


def test_every_mutant_has_its_test() -> None:
    assert {case.mutant for case in CASES} == set(MUTANTS)
