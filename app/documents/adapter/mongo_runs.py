"""Transitions of a run in MongoDB: one conditional update each, on the database's clock (`$$NOW`).

Traps of pipeline updates: what came from outside goes through `$literal`; `$set` of a sub-document merges, so
every field is named; there is no `$inc`; durations are added in milliseconds.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pymongo import ASCENDING

from app.documents.adapter.mongo import DocumentRecord
from app.documents.domain.document import REQUESTABLE, Document, EventType, RunResult
from app.documents.domain.ports import WakeUp
from app.documents.domain.processors import ErrorCode, ProcessingError
from app.documents.domain.run_policy import RunPolicy
from core.mongo import NOW, MongoUnavailable, Row, change_one, find_one, later, translated
from core.tracing import carried

T = TypeVar("T")

PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)


class MongoRuns:
    """Runs inside the collection `documents`."""

    def __init__(self, policy: RunPolicy) -> None:
        self._policy = policy

    async def request(
        self, document_id: str, owner_id: str, *, processor: str, options: dict[str, Any], force: bool, request_id: str,
        command_id: str | None = None,
    ) -> Document | None:  # fmt: skip
        statuses = {"$in": list(REQUESTABLE[force])}
        started = queued({"run.tries": 0, "run.waits": 0, "run.requested_at": NOW}) | {
            "status": "PROCESSING",
            "version": plus("$version", 1),
            "run.processor": given(processor),
            "run.options": given(options),
            "run.request_id": given(request_id),
            "run.trace": given(carried()),
            "run.command_id": given(command_id),
            "run.error": None,
            "run.result": None,
            "run.finished_at": None,
            "updated_at": NOW,
        }
        query: Row = {"_id": document_id, "owner_id": owner_id, "deleted_at": None, "status": statuses}
        if command_id is not None:
            query["run.command_id"] = {"$ne": command_id}
        return await self._change(query, started, "document.processing")

    async def claim(self, document_id: str, attempt: int, *, token: str, worker: str) -> Document | None:
        claimable = {
            "_id": document_id, "run.state": "queued", "run.attempt": attempt,
            "$expr": {"$lte": ["$run.ready_at", NOW]},
        }  # fmt: skip
        claimed = {
            "run.state": "running",
            "run.token": token,
            "run.worker": given(worker),
            "run.tries": plus("$run.tries", 1),
            "run.started_at": NOW,
            "run.locked_until": later(self._policy.lease_s),
            "run.deadline_at": later(self._policy.maximum_s),
        }

        async def take() -> Document | None:
            won = await self._change(claimable, claimed)
            # An earlier try may have taken effect although its answer was lost: the token tells.
            return won or await self._find({"_id": document_id, "run.state": "running", "run.token": token})

        return await _repeated(take)

    async def beat(self, document_id: str, token: str, *, progress: int, message: str) -> bool:
        lease_end = {"$min": [later(self._policy.lease_s), "$run.deadline_at"]}
        update = {
            "run.locked_until": lease_end,
            "run.progress": {"$max": ["$run.progress", progress]},
            "run.message": given(message),
        }
        return await self._matched(_fence(document_id, token), update)

    async def hashed(self, document_id: str, token: str, sha256: str) -> bool:
        known = {"sha256": sha256, "version": plus("$version", 1), "updated_at": NOW}
        return await self._matched(_fence(document_id, token), known)

    async def complete(self, document_id: str, token: str, result: RunResult) -> bool:
        completed = _ended("COMPLETED") | {
            "run.progress": 100, "run.message": "", "run.result": given(result.model_dump(mode="python")),
        }  # fmt: skip
        return await self._ended_by_us(document_id, token, completed, "document.completed")

    async def fail(self, document_id: str, token: str, error: ProcessingError) -> bool:
        return await self._ended_by_us(document_id, token, _failed(error), "document.failed")

    async def retry(self, document_id: str, token: str, *, delay_s: float) -> bool:
        return await self._matched(_fence(document_id, token), queued(delay_s=delay_s))

    async def postpone(self, document_id: str, token: str, *, delay_s: float) -> bool:
        counts = {"run.tries": plus("$run.tries", -1), "run.waits": plus("$run.waits", 1)}
        return await self._matched(_fence(document_id, token), queued(counts, delay_s=delay_s))

    async def release(self, document_id: str, token: str) -> bool:
        back = {"run.tries": plus("$run.tries", -1), "run.woken_at": later(-self._policy.interval_s)}
        return await self._matched(_fence(document_id, token), queued(back))

    async def cancel(self, document_id: str, owner_id: str) -> Document | None:
        query = {"_id": document_id, "owner_id": owner_id, "deleted_at": None, "status": "PROCESSING"}
        cancelled = _failed(ProcessingError.of("cancelled")) | {"run.token": None}
        return await self._change(query, cancelled, "document.failed")

    async def remove(self, document_id: str, owner_id: str, version: int | None = None) -> Document | None:
        at_work = {"$eq": ["$status", "PROCESSING"]}

        def if_at_work(value: Any, field: str) -> Row:
            return {"$cond": [at_work, value, field]}

        gone = {
            "deleted_at": NOW,
            "status": if_at_work("FAILED", "$status"),
            "run.error": if_at_work(given(ProcessingError.of("cancelled").model_dump()), "$run.error"),
            "run.finished_at": if_at_work(NOW, "$run.finished_at"),
            "run.state": None,
            "run.token": None,
            "run.locked_until": None,
        }
        query: Row = {"_id": document_id, "owner_id": owner_id, "deleted_at": None}
        if version is not None:
            query["version"] = version
        return await self._change(query, gone, "document.deleted")

    async def wake_due(self, limit: int) -> list[WakeUp]:
        due = {
            "run.state": "queued",
            "$expr": {
                "$and": [{"$lte": ["$run.woken_at", later(-self._policy.interval_s)]}, {"$lte": ["$run.ready_at", NOW]}]
            },
        }
        return await self._each(due, "run.woken_at", {"run.woken_at": NOW}, limit)

    async def end_overdue(self, limit: int) -> int:
        hung = _lease_over({"$gte": ["$run.locked_until", "$run.deadline_at"]})
        worn = _lease_over({"$lt": ["$run.locked_until", "$run.deadline_at"]}) | {
            "run.tries": {"$gte": self._policy.tries}
        }
        ended = 0
        outcomes: tuple[tuple[Row, ErrorCode], ...] = ((hung, "timeout"), (worn, "worker_lost"))
        for query, code in outcomes:
            failed = _failed(ProcessingError.of(code))
            ended += len(await self._each(query, "run.locked_until", failed, limit, "document.failed"))
        return ended

    async def free_dead(self, limit: int) -> list[WakeUp]:
        dead = _lease_over({"$lt": ["$run.locked_until", "$run.deadline_at"]}) | {
            "run.tries": {"$lt": self._policy.tries}
        }
        return await self._each(dead, "run.locked_until", queued(), limit)

    async def _each(
        self, query: Row, oldest_by: str, update: Row, limit: int, event: EventType | None = None
    ) -> list[WakeUp]:
        """Moves due runs on, oldest first, one compare-and-set each: any number of reconcilers may run."""
        with translated():
            found = (
                await DocumentRecord.rows().find(query, {"_id": 1}).sort(oldest_by, ASCENDING).limit(limit).to_list()
            )
        moved = []
        for row in found:
            document = await self._change({**query, "_id": row["_id"]}, update, event)
            if document is not None:
                moved.append(WakeUp.of(document))
        return moved

    async def _ended_by_us(self, document_id: str, token: str, update: Row, event: EventType) -> bool:
        async def end() -> bool:
            if await self._change(_fence(document_id, token), update, event) is not None:
                return True
            # Our token stays on what we ended ourselves, so a lost answer is recognised.
            mine = {"_id": document_id, "run.token": token, "status": update["status"], "run.state": None}
            return await self._find(mine) is not None

        return await _repeated(end)

    async def _change(self, query: Row, update: Row, event: EventType | None = None) -> Document | None:
        return await change_one(DocumentRecord.rows(), query, _stages(update, event), Document)

    async def _matched(self, query: Row, update: Row) -> bool:
        with translated():
            result = await DocumentRecord.rows().update_one(query, [{"$set": update}])
        return bool(result.matched_count)

    async def _find(self, query: Row) -> Document | None:
        return await find_one(DocumentRecord.rows(), query, Document)


async def _repeated(step: Callable[[], Awaitable[T]]) -> T:
    """Repeats a step whose outcome is unknown; every step here may be repeated as it is."""
    for pause in PAUSES_S:
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 – spreads load, guards nothing
        try:
            return await step()
        except MongoUnavailable:
            continue
    raise MongoUnavailable


def _stages(update: Row, event: EventType | None) -> list[Row]:
    """The change, and in the same update the event that tells of it."""
    if event is None:
        return [{"$set": update}]
    told = {
        "event_id": {"$concat": ["evt_", "$_id", "_", {"$toString": "$seq"}]},
        "seq": "$seq",
        "type": event,
        "at": NOW,
        "owner_id": "$owner_id",
        "trace": given(carried()),
        "data": {"document_id": "$_id", "status": "$status", "attempt": "$run.attempt", "error": "$run.error"},
    }
    # A record of an earlier version may have neither field yet.
    seq = plus({"$ifNull": ["$seq", 0]}, 1)
    outbox = {"$concatArrays": [{"$ifNull": ["$outbox", []]}, [told]]}
    return [{"$set": {**update, "seq": seq}}, {"$set": {"outbox": outbox}}]


def _fence(document_id: str, token: str) -> Row:
    return {"_id": document_id, "run.state": "running", "run.token": token}


def _lease_over(and_also: Row) -> Row:
    return {"run.state": "running", "$expr": {"$and": [{"$lt": ["$run.locked_until", NOW]}, and_also]}}


def queued(counts: Row | None = None, *, delay_s: float = 0) -> Row:
    """Into the queue as the next attempt: the number is fixed before any message is sent."""
    return {
        "run.state": "queued", "run.attempt": plus("$run.attempt", 1), "run.token": None, "run.worker": None,
        "run.queued_at": NOW, "run.woken_at": NOW, "run.ready_at": later(delay_s), "run.started_at": None,
        "run.locked_until": None, "run.deadline_at": None, "run.progress": 0, "run.message": "queued",
        **(counts or {}),
    }  # fmt: skip


def _ended(status: str) -> Row:
    return {
        "status": status, "version": plus("$version", 1), "run.state": None, "run.locked_until": None,
        "run.finished_at": NOW, "updated_at": NOW,
    }  # fmt: skip


def _failed(error: ProcessingError) -> Row:
    return _ended("FAILED") | {"run.error": given(error.model_dump()), "run.message": ""}


def given(value: Any) -> Row:
    return {"$literal": value}


def plus(field: str | Row, amount: int) -> Row:
    return {"$add": [field, amount]}
