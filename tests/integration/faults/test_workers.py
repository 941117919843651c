"""Workers die, freeze, are poisoned, recycled and stopped."""

import asyncio
import random
import signal
from datetime import datetime
from functools import partial
from typing import Any

import psutil
import pytest

from tests.integration.faults.invariants import assert_invariants
from tests.integration.faults.process import INTERVAL_S, LEASE_S, START_S, Process, many
from tests.integration.faults.proxy import Proxy
from tests.integration.faults.recovery import Loss, assert_brought_back, moment, now
from tests.integration.faults.stage import Stage

pytestmark = pytest.mark.timeout(600)


async def child_kill(stage: Stage) -> None:
    stage.switch("tell-who-claims")
    worker = stage.crew()
    ids = await stage.documents(many(20, 100))
    await stage.watched()
    await stage.request(*ids, seconds=0.2)
    kills: list[tuple[int, datetime]] = []
    for part in range(1, many(5, 10)):
        done = len(ids) * part // many(6, 12)
        await stage.until(partial(stage.completed, done), 5 + done * 0.3, f"{done} documents are done")
        await stage.until(worker.children, 3, "the worker has a child")
        victim, at = random.choice(worker.children()), now()
        victim.kill()
        kills.append((victim.pid, at))
    await stage.ended(len(ids) * 0.3 + LEASE_S + INTERVAL_S)
    rows = [await stage.row(document_id) for document_id in ids]
    assert {row["status"] for row in rows} == {"COMPLETED"}
    attempts = sum(row["run"]["attempt"] for row in rows)
    assert attempts <= len(ids) + len(kills), f"{attempts} attempts after {len(kills)} kills"
    await assert_invariants(stage)
    recovery_s = await assert_brought_back(stage, _held(kills, worker, rows))
    stage.report(fault="child-kill", recovery_s=recovery_s, remarks=f"{len(kills)} kills, {attempts} attempts")


def _held(kills: list[tuple[int, datetime]], worker: Process, rows: list[dict[str, Any]]) -> list[Loss]:
    """The runs that the killed children had in hand: their last claim, if another attempt came after it."""
    newest = {row["_id"]: row["run"]["attempt"] for row in rows}
    last = {event["pid"]: (event["document_id"], event["attempt"]) for event in worker.events("claimed")}
    held = [(*last[pid], at) for pid, at in kills if pid in last]
    return [Loss(id, attempt + 1, at) for id, attempt, at in held if newest[id] > attempt]


async def test_killed_children_lose_nothing(stage: Stage) -> None:
    await child_kill(stage)


async def zombie(stage: Stage) -> None:
    """Frozen with the result in hand, past the lease; thawed while the second attempt runs, or after it."""
    count = many(4, 8)
    stage.control()
    worker = stage.worker("stop-before-complete", children=count + 2)  # a second attempt finds a child that is free
    ids = await stage.documents(count)
    await stage.watched()
    await stage.request(*ids, seconds=1)
    await stage.until(lambda: len(worker.events("frozen")) == count, 5 + count, "every first attempt is frozen")
    frozen = worker.events("frozen")
    holders = {event["document_id"]: psutil.Process(event["pid"]) for event in frozen}
    for running in (True, False):  # half of them early, the rest late
        state = {"run__state": "running"} if running else {"status": "COMPLETED"}
        while len(holders) > (count // 2 if running else 0):
            second = {"_id": {"$in": list(holders)}, "run__attempt": 2, **state}
            await stage.until(partial(stage.count, **second), LEASE_S + INTERVAL_S + 4, "a second attempt")
            holders.pop(await stage.one(**second)).send_signal(signal.SIGCONT)
    await stage.ended(count + 2)

    def refused() -> list[dict[str, Any]]:
        return [event for event in worker.events("process_lost") if event["attempt"] == 1]

    await stage.until(lambda: len(refused()) == count, 3, "every zombie was refused")
    rows = [await stage.row(document_id) for document_id in ids]
    assert {row["run"]["result"]["attempt"] for row in rows} == {2}, "no zombie applied its result"
    await assert_invariants(stage)
    assert await stage.inbox.count_documents({"type": "document.completed"}) == count
    recovery_s = await assert_brought_back(stage, [Loss(event["document_id"], 2, moment(event)) for event in frozen])
    stage.report(fault="zombie", recovery_s=recovery_s, remarks=f"{len(refused())} refused")


async def test_a_worker_that_was_thought_dead_changes_nothing(stage: Stage) -> None:
    await zombie(stage)


async def poison(stage: Stage) -> None:
    worker = stage.crew()
    (bad,) = await stage.documents(1)
    good = await stage.documents(10)
    await stage.request(bad, processor="poison")
    await stage.request(*good)
    await stage.ended(5 * (LEASE_S + 2 * INTERVAL_S) + 5)
    row = await stage.row(bad)
    assert (row["status"], row["run"]["error"]["code"], row["run"]["tries"]) == ("FAILED", "worker_lost", 5)
    assert await stage.count(status="COMPLETED") == len(good)
    await assert_invariants(stage)
    claims = [event for event in worker.events("process_started") if event["document_id"] == bad]
    recovery_s = await assert_brought_back(stage, [Loss(bad, claim["attempt"] + 1, moment(claim)) for claim in claims])
    stage.report(fault="poison", recovery_s=recovery_s)


@pytest.mark.slow
async def test_a_document_that_kills_its_workers_is_given_up(stage: Stage) -> None:
    await poison(stage)


async def worker_process(stage: Stage) -> None:
    count = many(20, 100)
    ids = await stage.documents(count)
    await stage.request(*ids)
    first = stage.worker(children=1, options=[f"--max-tasks-per-child={count * 2 // 5}"])
    await stage.ended(count * 0.1 + 12)
    await stage.until(stage.all_read, 1, "every message is read")
    assert len(first.events("process_started")) == count
    first.kill()
    await stage.until(stage.nobody_listens, 1, "Redis has noticed the death")

    more = await stage.documents(10)
    with Proxy(int(stage.servers.mongo_url.rpartition(":")[2].partition("/")[0])) as proxy:
        proxy.turn("refuse")
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        await stage.request(*more)

        async def are_there() -> bool:
            return set(more) <= set(await stage.messages())

        await stage.until(are_there, 1, "the messages are sent")
        second = stage.worker("short-selection", MONGO_URL=url)

        async def are_gone() -> bool:
            for _ in range(20):  # one on its way to a worker is nowhere for a moment
                if await are_there():
                    return False
                await asyncio.sleep(0.05)
            return True

        async def tried_or_vanished() -> bool:
            return len(second.events("worker_not_started")) >= 3 or await are_gone()

        await stage.until(tried_or_vanished, 4, "children end and are replaced")
        assert not await are_gone(), "no message vanished"
        assert second.events("process_started") == []
        proxy.turn("pass")
        back = now()
        await stage.ended(6)
        stage.control()
        await assert_invariants(stage)
    first_claim = min(second.events("process_started"), key=moment)  # by then there is a worker, and the rest is work
    # A child has to start first, which on a busy machine takes what it takes.
    recovery_s = await assert_brought_back(stage, [Loss(first_claim["document_id"], 1, back)], slack_s=START_S)
    assert "event loop" not in "".join(process.text() for process in stage.processes).lower()
    stage.report(fault="worker-process", recovery_s=recovery_s)


@pytest.mark.slow
async def test_a_worker_process_serves_many_tasks_and_none_without_its_database(stage: Stage) -> None:
    await worker_process(stage)


async def test_a_child_that_cannot_be_set_up_takes_no_task(stage: Stage) -> None:
    failures = stage.folder.root / "failures"
    failures.mkdir()
    ids = await stage.documents(5)
    await stage.request(*ids)
    stage.worker("setup-fails-at-first", children=1, FAILURES=str(failures))
    await stage.ended(10)  # by their first messages: nobody sends them again
    assert len(list(failures.iterdir())) == 3
    assert await stage.count(status="COMPLETED") == len(ids)


async def test_a_stopped_worker_gives_its_run_back_at_once(stage: Stage) -> None:
    stopping = stage.worker("short-stop", children=1)
    (document_id,) = await stage.documents(1)
    await stage.request(document_id, seconds=3)
    await stage.until(lambda: stage.count(run__state="running"), 5, "the run is claimed")
    stopping.stop(within_s=30)
    row = await stage.row(document_id)
    assert (row["run"]["attempt"], row["run"]["state"], row["run"]["tries"]) == (2, "queued", 0), "it was given back"
    stage.crew(children=1)
    await stage.ended(10)
    row = await stage.row(document_id)
    assert (row["status"], row["run"]["attempt"], row["run"]["tries"]) == ("COMPLETED", 2, 1)
    await assert_invariants(stage)
