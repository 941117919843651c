"""A message is a wake-up only: it may be missing, late, repeated or wrong."""

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import pytest

from core.ids import new_id
from tests.integration.faults.invariants import assert_invariants
from tests.integration.faults.process import INTERVAL_S, Api, many
from tests.integration.faults.recovery import Loss, assert_brought_back, moment, now
from tests.integration.faults.stage import MOCK, Stage, signed_in

pytestmark = pytest.mark.timeout(600)


async def enqueue_gap(stage: Stage) -> None:
    api = stage.api("publish-hangs")
    stage.crew()
    async with httpx.AsyncClient(base_url=api.base, timeout=30) as http:
        ada = await signed_in(stage, api, http)
        ids = await stage.documents(many(24, 50))
        await stage.watched()
        for document_id in ids:
            answer = await ada.post(f"/documents/{document_id}/process", json=MOCK)
            assert answer.status_code == 202
            stage.accept(document_id)
    api.kill()
    await stage.ended(len(ids) * 0.15 + 2 * INTERVAL_S)
    rows = [await stage.row(document_id) for document_id in ids]
    assert {(row["status"], row["run"]["attempt"]) for row in rows} == {("COMPLETED", 1)}
    assert all(row["run"]["woken_at"] > row["run"]["queued_at"] for row in rows), "only the reconciler published"
    await assert_invariants(stage)
    recovery_s = await assert_brought_back(stage, [Loss(row["_id"], 1, row["run"]["queued_at"]) for row in rows])
    stage.report(fault="enqueue-gap", recovery_s=recovery_s)


async def test_what_was_accepted_but_never_published_is_done(stage: Stage) -> None:
    await enqueue_gap(stage)


async def test_a_request_whose_answer_died_with_the_api_is_done_once(stage: Stage) -> None:
    api = stage.api("die-before-publish")
    stage.control()
    async with httpx.AsyncClient(base_url=api.base, timeout=30) as http:
        ada = await signed_in(stage, api, http)
        (document_id,) = await stage.documents(1)
        await stage.watched()
        with pytest.raises(httpx.RemoteProtocolError):
            await ada.post(f"/documents/{document_id}/process", json=MOCK)
        api.kill()
        again = stage.api(port=httpx.URL(api.base).port)
        await again.ready()
        answer = await ada.post(f"/documents/{document_id}/process", json=MOCK)
        assert (answer.status_code, answer.json()["status"], answer.json()["attempt"]) == (202, "PROCESSING", 1)
    stage.accept(document_id)
    stage.worker(children=1)
    await stage.ended(6)
    run = (await stage.row(document_id))["run"]
    assert run["attempt"] == 1
    await assert_invariants(stage)
    await assert_brought_back(stage, [Loss(document_id, 1, run["queued_at"])])


async def redis_flush(stage: Stage) -> None:
    worker = stage.crew()
    ids = await stage.documents(many(24, 200))
    await stage.watched()
    await stage.request(*ids, seconds=0.2)
    flushes = []
    for part in (1, 2, 3):
        done = len(ids) * part // 4
        await stage.until(partial(stage.completed, done), 5 + done * 0.3, f"{done} documents are done")
        await stage.container.redis().flushall()
        flushes.append(now())
    await stage.ended(len(ids) * 0.3 + 2 * INTERVAL_S)
    assert await stage.count(status="COMPLETED") == len(ids)
    await assert_invariants(stage)
    claims = {event["document_id"]: moment(event) for event in worker.events("process_started")}
    losses = [Loss(id, 1, at) for at in flushes for id, claimed in claims.items() if claimed > at]
    stage.report(fault="redis-flush", recovery_s=await assert_brought_back(stage, losses))


async def test_three_flushes_of_redis_lose_nothing(stage: Stage) -> None:
    await redis_flush(stage)


async def parallel_process(stage: Stage) -> None:
    api = stage.api()
    async with httpx.AsyncClient(base_url=api.base, timeout=30) as http:
        ada = await signed_in(stage, api, http)
    ids = await stage.documents(many(4, 20))
    for document_id in ids:
        answers = await _at_once(50, api, f"/documents/{document_id}/process", ada.auth)
        assert {status for status, _ in answers} == {202}
        attempts = {body["attempt"] for _, body in answers}
        assert attempts == {1}, f"all were given the same attempt: {attempts}"
        stage.accept(document_id)
    stage.crew()
    await stage.ended(len(ids) * 0.2 + 4)
    await assert_invariants(stage)
    told = [(event["seq"], event["type"]) for event in await stage.inbox.find({}).sort("seq").to_list()]
    expected = ((1, "document.uploaded"), (2, "document.processing"), (3, "document.completed"))
    assert told == [event for event in expected for _ in ids]
    stage.report(fault="parallel-process")


async def _at_once(count: int, api: Api, path: str, headers: dict[str, str]) -> list[tuple[int, dict[str, Any]]]:
    """Status and body of so many POSTs that were sent in the same moment, which a client library is too slow for."""
    body = json.dumps(MOCK)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
    request = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
    port = httpx.URL(api.base).port
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in connections:
        writer.write(request)
    answers = []
    for reader, writer in connections:
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        answers.append((int(head.split()[1]), json.loads(content)))
        writer.close()
    return answers


async def test_fifty_requests_at_once_are_one(stage: Stage) -> None:
    await parallel_process(stage)


async def duplicate_message(stage: Stage) -> None:
    stage.switch("repeat-messages")  # also those of the reconciler
    worker = stage.crew()
    ids = await stage.documents(many(16, 60))
    for document_id in ids:
        stage.send(document_id, 1)  # too early: nobody has asked yet
    await stage.until(stage.all_read, 5 + len(ids) * 0.05, "every message is read")
    for document_id in ids:
        await stage.request(document_id, seconds=0.3)
        for attempt in (1, 1, 1, 1, 0):
            stage.send(document_id, attempt)
    await stage.ended(len(ids) * 0.4 + 3)
    again = ids[: len(ids) // 4]
    await stage.request(*again, force=True)
    for document_id in ids:
        for attempt in (1, 1, 2, 2, 3):  # old, late, and never asked for
            stage.send(document_id, attempt)
    await stage.ended(len(again) * 0.2 + 4)
    await stage.until(stage.all_read, 3 + len(ids) * 0.3, "every message is read")
    starts = len(worker.events("process_started"))
    attempts = sum([(await stage.row(document_id))["run"]["attempt"] for document_id in ids])
    assert starts == attempts == len(ids) + len(again), f"{starts} starts of {attempts} attempts"
    assert "task_failed" not in worker.text(), "a message too many is no error"
    await assert_invariants(stage)
    ignored = len(worker.events("wakeup_ignored"))
    stage.report(fault="duplicate-message", remarks=f"{ignored} ignored")


async def test_repeated_late_and_old_messages_start_nothing(stage: Stage) -> None:
    await duplicate_message(stage)


async def test_a_message_about_nothing_is_dropped_and_the_worker_goes_on(stage: Stage) -> None:
    worker = stage.crew(children=1)
    (document_id,) = await stage.documents(1)
    await stage.until(lambda: worker.children(), 5, "the worker has its child")
    for unknown in (new_id("doc"), "", "$status"):
        stage.send(unknown, 1)
    await stage.request(document_id)
    await stage.ended(6)
    stage.send(document_id, 7)
    stage.send(document_id, -1)
    stage.container.celery().send_task("documents.process", args=("too", "many", "words"), queue="documents")
    await stage.until(stage.all_read, 3, "every message is read")
    assert len(worker.events("wakeup_ignored")) >= 5  # and what the reconciler sent once more
    (child,) = worker.children()
    await stage.request(document_id, force=True)
    await stage.ended(4)
    assert [found.pid for found in worker.children()] == [child.pid], "the child lives on"
    await assert_invariants(stage)
