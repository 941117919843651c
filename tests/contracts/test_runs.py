"""Transitions of a run: one suite for real MongoDB and for the twin that the server-free tier uses."""

import asyncio

import pytest

from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.domain.document import Document, RunResult
from app.documents.domain.errors import DocumentNotFound
from app.documents.domain.ports import Runs
from app.documents.domain.processors import ProcessingError
from app.documents.domain.run_policy import RunPolicy
from core import tracing
from core.clock import utc_now
from core.ids import new_id

RESULT = RunResult(attempt=1, processor="extract", version="1", partial=False, warnings=(), summary=None, objects={})
OWNER = "usr_owner"


@pytest.fixture
def documents(database: str) -> MongoDocuments:
    return MongoDocuments(utc_now)


@pytest.fixture
async def document_id(documents: MongoDocuments) -> str:
    document_id, now = new_id("doc"), utc_now()
    await documents.add(
        Document(
            id=document_id, owner_id=OWNER, filename="a.pdf", content_type="application/pdf", size=1, sha256="00",
            key="k", created_at=now, updated_at=now,
        )
    )  # fmt: skip
    return document_id


async def asked(runs: Runs, document_id: str, *, force: bool = False) -> Document | None:
    return await runs.request(
        document_id, OWNER, processor="extract", options={"$x": "$status"}, force=force, request_id="req_12345678"
    )


async def claimed(runs: Runs, document_id: str, attempt: int = 1, token: str = "mine") -> Document:
    document = await runs.claim(document_id, attempt, token=token, worker="w")
    assert document is not None
    return document


async def test_a_request_queues_the_next_attempt(runs: Runs, document_id: str) -> None:
    queued = await asked(runs, document_id)
    assert queued is not None
    assert (queued.status, queued.run.state, queued.run.attempt, queued.run.tries) == ("PROCESSING", "queued", 1, 0)
    assert queued.run.options == {"$x": "$status"}  # what came from outside is never an expression
    assert await asked(runs, document_id) is None
    assert await runs.request(document_id, "usr_other", processor="x", options={}, force=True, request_id="r") is None


async def test_of_many_requests_one_wins(runs: Runs, document_id: str) -> None:
    answers = await asyncio.gather(*(asked(runs, document_id) for _ in range(20)))
    assert len([answer for answer in answers if answer]) == 1


async def test_an_attempt_has_one_claimer(runs: Runs, document_id: str) -> None:
    assert await runs.claim(document_id, 1, token="t", worker="w") is None
    await asked(runs, document_id)
    assert await runs.claim(document_id, 2, token="t", worker="w") is None
    tries = [runs.claim(document_id, 1, token=f"t{number}", worker="w") for number in range(20)]
    won = [document for document in await asyncio.gather(*tries) if document]
    assert len(won) == 1
    assert (won[0].run.state, won[0].run.tries) == ("running", 1)


async def test_only_the_holder_moves_a_run(runs: Runs, document_id: str) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert not await runs.beat(document_id, "other", progress=50, message="m")
    assert not await runs.complete(document_id, "other", RESULT)
    assert not await runs.fail(document_id, "other", ProcessingError.of("internal"))
    assert not await runs.retry(document_id, "other", delay_s=0)
    assert not await runs.postpone(document_id, "other", delay_s=0)
    assert not await runs.release(document_id, "other")
    assert await runs.beat(document_id, "mine", progress=50, message="m")


async def test_progress_never_goes_back(runs: Runs, documents: MongoDocuments, document_id: str) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    for progress, shown in ((10, 10), (40, 40), (30, 40)):
        assert await runs.beat(document_id, "mine", progress=progress, message="$status")
        run = (await documents.get(document_id, OWNER)).run
        assert (run.progress, run.message) == (shown, "$status")


async def test_completion_is_recognised_when_repeated(runs: Runs, documents: MongoDocuments, document_id: str) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert await runs.complete(document_id, "mine", RESULT)
    document = await documents.get(document_id, OWNER)
    assert (document.status, document.run.state, document.run.progress) == ("COMPLETED", None, 100)
    assert document.run.result == RESULT
    assert await asked(runs, document_id) is None
    forced = await asked(runs, document_id, force=True)
    assert forced is not None
    assert (forced.run.attempt, forced.run.result, forced.run.finished_at) == (2, None, None)


async def test_a_failure_is_kept_and_may_be_tried_again(
    runs: Runs, documents: MongoDocuments, document_id: str
) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert await runs.fail(document_id, "mine", ProcessingError.of("document_corrupt"))
    document = await documents.get(document_id, OWNER)
    assert (document.status, document.run.error) == ("FAILED", ProcessingError.of("document_corrupt"))
    again = await asked(runs, document_id)
    assert again is not None
    assert (again.run.attempt, again.run.error) == (2, None)


async def test_a_retry_waits_for_its_time(runs: Runs, document_id: str) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert await runs.retry(document_id, "mine", delay_s=0.3)
    assert await runs.claim(document_id, 2, token="t", worker="w") is None
    await asyncio.sleep(0.35)
    assert (await claimed(runs, document_id, 2)).run.tries == 2


async def test_waiting_for_storage_and_stopping_cost_no_try(runs: Runs, document_id: str) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert await runs.postpone(document_id, "mine", delay_s=0)
    run = (await claimed(runs, document_id, 2)).run
    assert (run.tries, run.waits) == (1, 1)
    assert await runs.release(document_id, "mine")
    assert [wake_up.attempt for wake_up in await runs.wake_due(10)] == [3]
    assert (await claimed(runs, document_id, 3)).run.tries == 1


async def test_a_cancelled_run_is_lost_to_its_holder(runs: Runs, documents: MongoDocuments, document_id: str) -> None:
    assert await runs.cancel(document_id, OWNER) is None
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert await runs.cancel(document_id, "usr_other") is None
    cancelled = await runs.cancel(document_id, OWNER)
    assert cancelled is not None
    assert (cancelled.status, cancelled.run.error) == ("FAILED", ProcessingError.of("cancelled"))
    assert not await runs.beat(document_id, "mine", progress=1, message="")
    assert not await runs.complete(document_id, "mine", RESULT)
    assert (await documents.get(document_id, OWNER)).status == "FAILED"


async def test_a_removed_document_is_gone_for_everybody(
    runs: Runs, documents: MongoDocuments, document_id: str
) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert not await runs.remove(document_id, "usr_other")
    assert await runs.remove(document_id, OWNER)
    assert not await runs.remove(document_id, OWNER)
    assert not await runs.complete(document_id, "mine", RESULT)
    assert await asked(runs, document_id, force=True) is None
    with pytest.raises(DocumentNotFound):
        await documents.get(document_id, OWNER)
    assert list(await documents.removed(10)) == [document_id]
    await documents.purge(document_id)
    assert list(await documents.removed(10)) == [document_id]  # its events are not routed yet
    await DocumentRecord.get_pymongo_collection().update_one({"_id": document_id}, {"$set": {"outbox": []}})
    await documents.purge(document_id)
    assert list(await documents.removed(10)) == []


async def test_what_waits_is_woken_once_per_interval(runs: Runs, policy: RunPolicy, document_id: str) -> None:
    with tracing.work("request", ""):
        await asked(runs, document_id)
        trace = tracing.carried()
    assert await runs.wake_due(10) == []
    await asyncio.sleep(policy.interval_s + 0.05)
    woken = await runs.wake_due(10)
    assert [(wake_up.document_id, wake_up.attempt, wake_up.request_id, wake_up.trace) for wake_up in woken] == [
        (document_id, 1, "req_12345678", trace)
    ]
    assert await runs.wake_due(10) == []


async def test_a_dead_worker_loses_its_run(runs: Runs, policy: RunPolicy, document_id: str) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    assert await runs.free_dead(10) == []
    await asyncio.sleep(policy.lease_s + 0.05)
    assert [wake_up.attempt for wake_up in await runs.free_dead(10)] == [2]
    assert not await runs.complete(document_id, "mine", RESULT)
    assert (await claimed(runs, document_id, 2)).run.tries == 2


async def test_a_beating_worker_keeps_its_run_until_the_hard_end(
    runs: Runs, documents: MongoDocuments, policy: RunPolicy, document_id: str
) -> None:
    await asked(runs, document_id)
    await claimed(runs, document_id)
    for _ in range(6):
        await asyncio.sleep(policy.lease_s / 2)
        assert await runs.beat(document_id, "mine", progress=1, message="")
        assert await runs.free_dead(10) == []
    assert await runs.end_overdue(10) == 1
    document = await documents.get(document_id, OWNER)
    assert (document.status, document.run.error) == ("FAILED", ProcessingError.of("timeout"))


async def test_a_run_that_kills_its_workers_is_given_up(
    runs: Runs, documents: MongoDocuments, policy: RunPolicy, document_id: str
) -> None:
    await asked(runs, document_id)
    for attempt in range(1, policy.tries + 1):
        await claimed(runs, document_id, attempt)
        await asyncio.sleep(policy.lease_s + 0.05)
        ended, freed = await runs.end_overdue(10), await runs.free_dead(10)
        assert (ended, len(freed)) == ((1, 0) if attempt == policy.tries else (0, 1))
    document = await documents.get(document_id, OWNER)
    assert (document.status, document.run.error) == ("FAILED", ProcessingError.of("worker_lost"))


async def test_every_change_of_the_status_tells_of_itself_once(
    runs: Runs, documents: MongoDocuments, document_id: str
) -> None:
    await asked(runs, document_id)
    await asked(runs, document_id)
    await claimed(runs, document_id)
    await runs.beat(document_id, "mine", progress=5, message="")
    await runs.fail(document_id, "mine", ProcessingError.of("timeout"))
    await runs.fail(document_id, "mine", ProcessingError.of("timeout"))
    await asked(runs, document_id)
    await claimed(runs, document_id, 2)
    await runs.complete(document_id, "mine", RESULT)
    told = (await documents.get(document_id, OWNER)).outbox
    assert [(event.seq, event.type) for event in told] == [
        (1, "document.processing"), (2, "document.failed"), (3, "document.processing"), (4, "document.completed")
    ]  # fmt: skip
    assert told[1].event_id == f"evt_{document_id}_2"
    assert told[1].owner_id == OWNER
    assert (told[1].data["status"], told[1].data["attempt"]) == ("FAILED", 1)
    assert told[1].data["error"]["code"] == "timeout"
    assert told[3].data["error"] is None
