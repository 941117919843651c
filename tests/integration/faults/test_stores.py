"""Redis, S3 and MongoDB are away, hang, or take effect without an answer."""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from tests.clients import Person
from tests.integration.faults.invariants import assert_invariants
from tests.integration.faults.process import FULL, Api, many
from tests.integration.faults.proxy import Proxy
from tests.integration.faults.recovery import Loss, assert_brought_back, moment, now
from tests.integration.faults.stage import MOCK, Stage, signed_in

pytestmark = pytest.mark.timeout(600)

ANSWER_S, HEALTH_S = 2, 0.2


async def redis_down_accept(stage: Stage) -> None:
    api = stage.api()
    worker = stage.crew()
    async with httpx.AsyncClient(base_url=api.base, timeout=60) as http:
        ada = await signed_in(stage, api, http)
        ids = await stage.documents(many(24, 50))
        await stage.watched()
        half = len(ids) // 2
        beats: list[float] = []
        async with _pulse(api, beats):
            stage.servers.kill("redis")
            slowest = await _all_accepted(stage, ada, ids[:half])
            await asyncio.to_thread(stage.servers.start, "redis")
            redis = stage.servers.pid("redis")
            os.kill(redis, signal.SIGSTOP)
            try:
                slowest = max(slowest, await _all_accepted(stage, ada, ids[half:]))
            finally:
                os.kill(redis, signal.SIGCONT)
            back = now()
    assert max(beats) < ANSWER_S, f"/health took {max(beats):.1f} s"
    slow = sum(beat > HEALTH_S for beat in beats)  # the machine of a test may be busy now and then
    assert slow <= len(beats) * 0.1, f"{slow} of {len(beats)} times /health took over {HEALTH_S} s"
    await stage.ended(len(ids) * 0.15 + 12)
    assert await stage.count(status="COMPLETED") == len(ids)
    await assert_invariants(stage)
    waited = {event["document_id"] for event in worker.events("process_started") if moment(event) > back}
    recovery_s = await assert_brought_back(stage, [Loss(document_id, 1, back) for document_id in waited])
    remarks = f"process at most {slowest:.2f} s, health {max(beats):.3f} s"
    stage.report(fault="redis-down-accept", recovery_s=recovery_s, remarks=remarks)


async def _all_accepted(stage: Stage, ada: Person, ids: list[str]) -> float:
    """The longest that an answer took."""
    took = []
    for document_id in ids:
        started = time.monotonic()
        answer = await ada.post(f"/documents/{document_id}/process", json=MOCK)
        took.append(time.monotonic() - started)
        assert answer.status_code == 202
        stage.accept(document_id)
    assert max(took) < ANSWER_S, f"an answer took {max(took):.1f} s"
    return max(took)


@asynccontextmanager
async def _pulse(api: Api, beats: list[float]) -> AsyncIterator[None]:
    """Asks for /health all the while, and notes how long each answer took."""

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=api.base, timeout=60) as http:
            while True:
                started = time.monotonic()
                await http.get("/health")
                beats.append(time.monotonic() - started)
                await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        await asyncio.sleep(0.2)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


@pytest.mark.slow
async def test_requests_are_accepted_without_redis_and_done_when_it_is_back(stage: Stage) -> None:
    await redis_down_accept(stage)


async def s3_down(stage: Stage) -> None:
    api = stage.api()
    port = int(stage.servers.s3_endpoint_url.rpartition(":")[2])
    with Proxy(port) as proxy:
        stage.crew(S3_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}")
        async with httpx.AsyncClient(base_url=api.base, timeout=30) as http:
            ada = await signed_in(stage, api, http)
            ids = await stage.documents(4)
            proxy.turn("refuse")
            await _all_accepted(stage, ada, ids[:2])
            await stage.until(lambda: _postponed(stage, ids[:2], 2), 8, "refused runs are postponed")
            proxy.turn("hang")
            await _all_accepted(stage, ada, ids[2:])
            waits = 4 if FULL else 3
            await stage.until(lambda: _postponed(stage, ids[:2], waits), 10 + 5 * waits, "hung runs are postponed")
            await stage.until(lambda: _postponed(stage, ids[2:], 1), 15, "new runs are postponed")
        proxy.turn("pass")
        back = now()
        await stage.ended(20)
        rows = [await stage.row(document_id) for document_id in ids]
        assert {(row["status"], row["run"]["tries"]) for row in rows} == {("COMPLETED", 1)}
        await assert_invariants(stage)
        runs = {row["_id"]: row["run"] for row in rows if row["run"]["started_at"] > back}
        losses = [Loss(id, run["attempt"], max(back, run["ready_at"])) for id, run in runs.items()]
        pause = max((loss.at - back).total_seconds() for loss in losses)
        remarks = f"{sum(row['run']['waits'] for row in rows)} postponed, up to {pause:.1f} s of back-off left"
        stage.report(fault="s3-down", recovery_s=await assert_brought_back(stage, losses), remarks=remarks)


async def _postponed(stage: Stage, ids: list[str], times: int) -> bool:
    """All along they are PROCESSING, and a try is what storage did not prevent."""
    rows = [await stage.row(document_id) for document_id in ids]
    assert {row["status"] for row in rows} == {"PROCESSING"}
    assert max(row["run"]["tries"] for row in rows) <= 1, "a wait for storage is not counted as a try"
    return all(row["run"]["waits"] >= times for row in rows)


@pytest.mark.slow
async def test_runs_wait_for_storage_and_lose_no_try(stage: Stage) -> None:
    await s3_down(stage)


class LostAnswers:
    """Which answers are cut: of requests all while `requests` is set, of claim and completion the first two.

    The driver repeats a write by itself: a worker's once, so that two have to be lost; the API's for five seconds.
    """

    STEPS = (
        ("request", (b"findAndModify", b"run.requested_at"), ()),
        ("claim", (b"findAndModify", b"$run.ready_at"), (b"$run.woken_at",)),
        ("complete", (b"findAndModify", b"document.completed"), ()),
    )

    def __init__(self) -> None:
        self.requests = True
        self.cuts: Counter[tuple[str, bytes]] = Counter()

    def __call__(self, message: bytes) -> bool:
        for step, marks, others in self.STEPS:
            if all(mark in message for mark in marks) and not any(mark in message for mark in others):
                document_id = re.findall(rb"doc_[0-9a-z]{26}", message)[0]
                self.cuts[step, document_id] += 1
                return self.requests if step == "request" else self.cuts[step, document_id] <= 2
        return False


async def unknown_outcome(stage: Stage) -> None:
    """Of request, claim and completion the effect is there, and the answer is not."""
    port = int(stage.servers.mongo_url.partition("/?")[0].rpartition(":")[2])
    lost = LostAnswers()
    with Proxy(port, mongo=True) as proxy:
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        api = stage.api(MONGO_URL=url)
        async with httpx.AsyncClient(base_url=api.base, timeout=30) as http:
            ada = await signed_in(stage, api, http)
            ids = await stage.documents(many(3, 20))
            proxy.cut(lost)
            answers = await asyncio.gather(*(ada.post(f"/documents/{id}/process", json=MOCK) for id in ids))
            assert {answer.status_code for answer in answers} == {503}
            lost.requests = False
            for document_id in ids:
                answer = await ada.post(f"/documents/{document_id}/process", json=MOCK)
                assert (answer.status_code, answer.json()["attempt"]) == (202, 1), "the repeat gives the same state"
                stage.accept(document_id)
        stage.crew(MONGO_URL=url)
        await stage.ended(len(ids) * 2 + 6)
        await assert_invariants(stage)
    rows = [await stage.row(document_id) for document_id in ids]
    assert {(row["status"], row["run"]["attempt"]) for row in rows} == {("COMPLETED", 1)}, "there was one attempt each"
    assert await stage.inbox.count_documents({"type": "document.processing"}) == len(ids)
    assert len(lost.cuts) == len(ids) * len(lost.STEPS), f"not every step lost its answer: {lost.cuts}"
    stage.report(fault="unknown-outcome")


async def test_a_lost_answer_of_the_database_changes_nothing(stage: Stage) -> None:
    await unknown_outcome(stage)
