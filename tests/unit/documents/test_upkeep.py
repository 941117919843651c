"""What the reconciler sends, and when it holds back."""

from datetime import timedelta
from typing import Any

import pytest

from app.documents.adapter.tasks import RELAY, schedule
from app.documents.application.upkeep import BATCH, Upkeep
from app.documents.domain.ports import WakeUp
from core.config import Settings


class Runs:
    """One run that lost its worker, one that waits."""

    async def end_overdue(self, limit: int) -> int:
        return 0

    async def free_dead(self, limit: int) -> list[WakeUp]:
        return [WakeUp("doc_dead", 2, "extract", "r")]

    async def wake_due(self, limit: int) -> list[WakeUp]:
        return [WakeUp("doc_waiting", 1, "extract", "r")]


class Queue:
    def __init__(self, waiting: int) -> None:
        self.waiting, self.woken = waiting, list[str]()

    def wake(self, wake_up: WakeUp) -> None:
        self.woken.append(wake_up.document_id)

    async def backlog(self) -> int:
        return self.waiting


@pytest.mark.parametrize(("waiting", "woken"), [(0, ["doc_dead", "doc_waiting"]), (BATCH, ["doc_dead"])])
async def test_a_long_queue_is_not_made_longer(waiting: int, woken: list[str]) -> None:
    queue = Queue(waiting)
    world: tuple[Any, ...] = (None, Runs(), queue, None)
    await Upkeep(*world).reconcile()
    assert queue.woken == woken


def test_events_of_what_the_api_did_are_told_within_a_second() -> None:
    assert schedule(Settings(app_env="test"))[RELAY] <= timedelta(seconds=1)
