"""Faults that would be easy to write. The test that proves a guarantee has to fail with each of them."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from app.documents.adapter import mongo_runs
from app.documents.adapter.mongo import DocumentRecord, MongoDocuments
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.adapter.queue import PROCESS, CeleryProcessingQueue
from app.documents.domain.document import Document, EventType, RunResult
from app.documents.domain.ports import WakeUp
from core.celery import WakeUps
from core.ids import random_token
from core.mongo import NOW, MongoUnavailable, Row, later
from core.relay import Relay
from core.worker_process import WorkerProcess
from tests.integration.faults.patches import Patch, named

T = TypeVar("T")


def nobody_is_woken(patch: Patch) -> None:
    """The reconciler sends no message again."""
    patch(MongoRuns, "wake_due", _nothing)


def woken_only_once(patch: Patch) -> None:
    """The reconciler sends each attempt once."""

    async def wake_due(runs: MongoRuns, limit: int) -> list[WakeUp]:
        again = {"$eq": ["$run.woken_at", "$run.queued_at"]}
        waited = {"$lte": ["$run.woken_at", later(-runs._policy.interval_s)]}
        due = {"run.state": "queued", "$expr": {"$and": [again, waited, {"$lte": ["$run.ready_at", NOW]}]}}
        return await runs._each(due, "run.woken_at", {"run.woken_at": NOW}, limit)

    patch(MongoRuns, "wake_due", wake_due)


def publish_in_the_handler(patch: Patch) -> None:
    """The answer waits for Redis."""

    def wake(queue: CeleryProcessingQueue, wake_up: WakeUp) -> None:
        wake_ups: WakeUps = queue._wake_ups
        with wake_ups._lock:
            wake_ups._waiting += 1
        options = {"queue": "documents", "headers": {"request_id": wake_up.request_id}}
        wake_ups._publish(PROCESS, (wake_up.document_id, wake_up.attempt), options)

    patch(CeleryProcessingQueue, "wake", wake)


def dead_are_not_freed(patch: Patch) -> None:
    patch(MongoRuns, "free_dead", _nothing)


def fence_without_token(patch: Patch) -> None:
    patch(mongo_runs, "_fence", lambda document_id, token: {"_id": document_id, "run.state": "running"})


def fence_by_id(patch: Patch) -> None:
    patch(mongo_runs, "_fence", lambda document_id, token: {"_id": document_id})


def tries_not_counted(patch: Patch) -> None:
    """A claim does not count, so what kills its worker may do so for ever."""
    plus = mongo_runs.plus
    patch(mongo_runs, "plus", lambda field, amount: plus(field, 0 if field == "$run.tries" else amount))


def error_means_no(patch: Patch) -> None:
    """A step whose answer was lost is taken as refused."""
    patch(mongo_runs, "_repeated", _once_or_no)


def error_makes_a_new_token(patch: Patch) -> None:
    """After an error the claim begins afresh, and does not know its own claim."""
    claim = MongoRuns.claim

    async def claim_again(runs: MongoRuns, document_id: str, attempt: int, *, token: str, worker: str) -> Any:
        try:
            return await claim(runs, document_id, attempt, token=token, worker=worker)
        except MongoUnavailable:
            return await claim(runs, document_id, attempt, token=random_token(), worker=worker)

    patch(mongo_runs, "_repeated", _once)
    patch(MongoRuns, "claim", claim_again)


def error_requeues(patch: Patch) -> None:
    """After an error of the last step the document goes back to the queue."""
    complete = MongoRuns.complete

    async def or_again(runs: MongoRuns, document_id: str, token: str, result: RunResult) -> bool:
        try:
            return await complete(runs, document_id, token, result)
        except MongoUnavailable:
            again = mongo_runs.queued() | {"status": "PROCESSING"}
            await runs._change({"_id": document_id, "run.token": token}, again)
            return False

    patch(mongo_runs, "_repeated", _once)
    patch(MongoRuns, "complete", or_again)


def postpone_counts_a_try(patch: Patch) -> None:
    patch(MongoRuns, "postpone", MongoRuns.retry)


def status_read_first(patch: Patch) -> None:
    """A request looks at the status, then writes by id."""

    def changed(query: Row, event: EventType | None) -> Row:
        return {"_id": query["_id"]} if event == "document.processing" else query

    _change_by(patch, changed)


def claim_takes_any_state(patch: Patch) -> None:
    """A claim asks for the attempt alone."""

    def changed(query: Row, event: EventType | None) -> Row:
        return {name: value for name, value in query.items() if name != "run.state" or "run.attempt" not in query}

    _change_by(patch, changed)


def event_after_the_update(patch: Patch) -> None:
    """The change first, its event in a second update."""
    change = MongoRuns._change

    async def change_then_tell(
        runs: MongoRuns, query: Row, update: Row, event: EventType | None = None
    ) -> Document | None:
        changed = await change(runs, query, update)
        if changed is not None and event is not None:
            return await change(runs, {"_id": query["_id"]}, {}, event)
        return changed

    patch(MongoRuns, "_change", change_then_tell)


def relay_polls_by_time(patch: Patch) -> None:
    """The relay asks for what is newer than the last event it has seen."""
    route = Relay._route
    seen: list[Any] = []

    async def newer(relay: Relay, query: Row) -> None:
        if seen:
            query = {**query, "outbox.at": {"$gt": max(seen)}}
        rows = await relay._source.get_pymongo_collection().find(query, {"outbox": 1}).to_list()
        seen.extend(event["at"] for row in rows for event in row["outbox"])
        await route(relay, query)

    patch(Relay, "_route", newer)


def loop_per_task(patch: Patch) -> None:
    """A new event loop for every task, with clients that belong to another."""

    def run(process: WorkerProcess, work: Callable[[Any], Awaitable[None]], task: Any) -> None:
        async def on_container() -> None:
            await work(process._container)

        asyncio.run(on_container())

    patch(WorkerProcess, "run", run)


def child_lives_without_container(patch: Patch) -> None:
    """A worker process that could not start takes tasks all the same."""

    def start(process: WorkerProcess) -> None:
        process._runner = asyncio.Runner()
        try:
            process._container = process._runner.run(process._stack.enter_async_context(process._enter()))
        except Exception:
            traceback.print_exc()

    patch(WorkerProcess, "start", start)


def save_in_the_repository(patch: Patch) -> None:
    """A change of a document writes the whole copy back."""

    async def update(documents: MongoDocuments, document: Document, fields: dict[str, Any]) -> Document | None:
        return await DocumentRecord.model_validate({**document.model_dump(), **fields}).save()

    patch(MongoDocuments, "update", update)


def _change_by(patch: Patch, changed: Callable[[Row, EventType | None], Row]) -> None:
    change = MongoRuns._change

    async def read_then_write(
        runs: MongoRuns, query: Row, update: Row, event: EventType | None = None
    ) -> Document | None:
        other = changed(query, event)
        if other != query and "run.attempt" not in query and await runs._find(query) is None:
            return None
        return await change(runs, other, update, event)

    patch(MongoRuns, "_change", read_then_write)


async def _nothing(runs: MongoRuns, limit: int) -> list[WakeUp]:
    return []


async def _once(step: Callable[[], Awaitable[T]]) -> T:
    return await step()


async def _once_or_no(step: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await step()
    except MongoUnavailable:
        return None


MUTANTS = named(
    nobody_is_woken,
    woken_only_once,
    publish_in_the_handler,
    dead_are_not_freed,
    fence_without_token,
    fence_by_id,
    tries_not_counted,
    error_means_no,
    error_makes_a_new_token,
    error_requeues,
    postpone_counts_a_try,
    status_read_first,
    claim_takes_any_state,
    event_after_the_update,
    relay_polls_by_time,
    loop_per_task,
    child_lives_without_container,
    save_in_the_repository,
)
