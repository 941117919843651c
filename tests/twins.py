"""In-memory twins of the repositories that decide on the database's clock; held to it by tests/contracts."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.documents.adapter.mongo import DocumentRecord
from app.documents.domain.document import REQUESTABLE, Document, EventType, Run, RunResult
from app.documents.domain.ports import WakeUp
from app.documents.domain.processors import ProcessingError
from app.documents.domain.run_policy import RunPolicy
from core.clock import Clock
from core.events import OutboxEvent, event_id
from core.mongo import to_model
from core.tracing import carried


class RunsTwin:
    """Runs over whatever collection DocumentRecord is bound to; no await between reading and writing a row."""

    def __init__(self, policy: RunPolicy, clock: Clock) -> None:
        self._policy, self._clock = policy, clock

    async def request(
        self, document_id: str, owner_id: str, *, processor: str, options: dict[str, Any], force: bool,
        request_id: str, command_id: str | None = None,
    ) -> Document | None:  # fmt: skip
        def start(document: Document) -> dict[str, Any]:
            now = self._clock()
            run = self._queued(document.run).model_copy(
                update={
                    "tries": 0,
                    "waits": 0,
                    "requested_at": now,
                    "processor": processor,
                    "options": options,
                    "request_id": request_id,
                    "trace": carried(),
                    "command_id": command_id,
                    "error": None,
                    "result": None,
                    "finished_at": None,
                }
            )
            return {"status": "PROCESSING", "version": document.version + 1, "run": run, "updated_at": now}

        return await self._change(
            document_id,
            lambda found: (
                found.owner_id == owner_id
                and not found.deleted_at
                and found.status in REQUESTABLE[force]
                and (command_id is None or found.run.command_id != command_id)
            ),
            start,
            "document.processing",
        )

    async def claim(self, document_id: str, attempt: int, *, token: str, worker: str) -> Document | None:
        now = self._clock()
        return await self._change(
            document_id,
            lambda found: (
                found.run.state == "queued" and found.run.attempt == attempt and _before(found.run.ready_at, now)
            ),
            lambda found: {
                "run": found.run.model_copy(
                    update={
                        "state": "running",
                        "token": token,
                        "worker": worker,
                        "tries": found.run.tries + 1,
                        "started_at": now,
                        "locked_until": self._in(self._policy.lease_s),
                        "deadline_at": self._in(self._policy.maximum_s),
                    }
                )
            },
        )

    async def beat(self, document_id: str, token: str, *, progress: int, message: str) -> bool:
        return await self._fenced(
            document_id,
            token,
            lambda found: {
                "run": found.run.model_copy(
                    update={
                        "locked_until": min(self._in(self._policy.lease_s), found.run.deadline_at or datetime.max),
                        "progress": max(found.run.progress, progress),
                        "message": message,
                    }
                )
            },
        )

    async def hashed(self, document_id: str, token: str, sha256: str) -> bool:
        known = {"sha256": sha256, "updated_at": self._clock()}
        return await self._fenced(document_id, token, lambda found: {**known, "version": found.version + 1})

    async def complete(self, document_id: str, token: str, result: RunResult) -> bool:
        done = {"progress": 100, "message": "", "result": result}
        return await self._end(document_id, token, "COMPLETED", done, "document.completed")

    async def fail(self, document_id: str, token: str, error: ProcessingError) -> bool:
        return await self._end(document_id, token, "FAILED", {"error": error, "message": ""}, "document.failed")

    async def retry(self, document_id: str, token: str, *, delay_s: float) -> bool:
        return await self._fenced(document_id, token, lambda found: {"run": self._queued(found.run, delay_s)})

    async def postpone(self, document_id: str, token: str, *, delay_s: float) -> bool:
        def back(found: Document) -> dict[str, Any]:
            counts = {"tries": found.run.tries - 1, "waits": found.run.waits + 1}
            return {"run": self._queued(found.run, delay_s).model_copy(update=counts)}

        return await self._fenced(document_id, token, back)

    async def release(self, document_id: str, token: str) -> bool:
        def back(found: Document) -> dict[str, Any]:
            counts = {"tries": found.run.tries - 1, "woken_at": self._in(-self._policy.interval_s)}
            return {"run": self._queued(found.run).model_copy(update=counts)}

        return await self._fenced(document_id, token, back)

    async def cancel(self, document_id: str, owner_id: str) -> Document | None:
        return await self._change(
            document_id,
            lambda found: found.owner_id == owner_id and not found.deleted_at and found.status == "PROCESSING",
            lambda found: self._ended(found, "FAILED", {"error": ProcessingError.of("cancelled"), "token": None}),
            "document.failed",
        )

    async def remove(self, document_id: str, owner_id: str, version: int | None = None) -> Document | None:
        def gone(found: Document) -> dict[str, Any]:
            idle: dict[str, Any] = {"state": None, "token": None, "locked_until": None}
            if found.status == "PROCESSING":
                idle |= {"error": ProcessingError.of("cancelled"), "finished_at": self._clock()}
            status = "FAILED" if found.status == "PROCESSING" else found.status
            return {"deleted_at": self._clock(), "status": status, "run": found.run.model_copy(update=idle)}

        return await self._change(
            document_id,
            lambda found: found.owner_id == owner_id and not found.deleted_at and version in {None, found.version},
            gone,
            "document.deleted",
        )

    async def wake_due(self, limit: int) -> list[WakeUp]:
        def due(found: Document) -> bool:
            since = self._in(-self._policy.interval_s)
            return _before(found.run.woken_at, since) and _before(found.run.ready_at, self._clock())

        return await self._each(
            "queued", due, lambda found: {"run": found.run.model_copy(update={"woken_at": self._clock()})}, limit
        )

    async def end_overdue(self, limit: int) -> int:
        def hung(found: Document) -> bool:
            return self._lease_over(found) and not self._beat_stopped(found)

        def worn(found: Document) -> bool:
            return self._lease_over(found) and self._beat_stopped(found) and found.run.tries >= self._policy.tries

        def ended(code: Any) -> Callable[[Document], dict[str, Any]]:
            return lambda found: self._ended(found, "FAILED", {"error": ProcessingError.of(code)})

        timed_out = await self._each("running", hung, ended("timeout"), limit, "document.failed")
        lost = await self._each("running", worn, ended("worker_lost"), limit, "document.failed")
        return len(timed_out) + len(lost)

    async def free_dead(self, limit: int) -> list[WakeUp]:
        def dead(found: Document) -> bool:
            return self._lease_over(found) and self._beat_stopped(found) and found.run.tries < self._policy.tries

        return await self._each("running", dead, lambda found: {"run": self._queued(found.run)}, limit)

    def _lease_over(self, found: Document) -> bool:
        return found.run.locked_until is not None and found.run.locked_until < self._clock()

    def _beat_stopped(self, found: Document) -> bool:
        run = found.run
        return run.locked_until is not None and run.deadline_at is not None and run.locked_until < run.deadline_at

    def _queued(self, run: Run, delay_s: float = 0) -> Run:
        now = self._clock()
        return run.model_copy(
            update={
                "state": "queued",
                "attempt": run.attempt + 1,
                "token": None,
                "worker": None,
                "queued_at": now,
                "woken_at": now,
                "ready_at": self._in(delay_s),
                "started_at": None,
                "locked_until": None,
                "deadline_at": None,
                "progress": 0,
                "message": "queued",
            }
        )

    def _ended(self, found: Document, status: str, update: dict[str, Any]) -> dict[str, Any]:
        now = self._clock()
        run = found.run.model_copy(update={"state": None, "locked_until": None, "finished_at": now, **update})
        return {"status": status, "version": found.version + 1, "run": run, "updated_at": now}

    async def _end(self, document_id: str, token: str, status: str, update: dict[str, Any], event: EventType) -> bool:
        return await self._fenced(document_id, token, lambda found: self._ended(found, status, update), event)

    async def _fenced(
        self,
        document_id: str,
        token: str,
        change: Callable[[Document], dict[str, Any]],
        event: EventType | None = None,
    ) -> bool:
        held = await self._change(
            document_id, lambda found: found.run.state == "running" and found.run.token == token, change, event
        )
        return held is not None

    async def _each(
        self,
        state: str,
        due: Callable[[Document], bool],
        change: Callable[[Document], dict[str, Any]],
        limit: int,
        event: EventType | None = None,
    ) -> list[WakeUp]:
        moved = []
        rows: Sequence[dict[str, Any]] = await self._rows.find({"run.state": state}).to_list()
        for row in rows[:limit]:
            document = await self._change(row["_id"], due, change, event)
            if document is not None:
                moved.append(WakeUp.of(document))
        return moved

    async def _change(
        self,
        document_id: str,
        matches: Callable[[Document], bool],
        change: Callable[[Document], dict[str, Any]],
        event: EventType | None = None,
    ) -> Document | None:
        row = await self._rows.find_one({"_id": document_id})
        found = None if row is None else to_model(Document, row)
        if found is None or not matches(found):
            return None
        after = found.model_copy(update=change(found))
        if event:
            after = self._with_event(after, event)
        await self._rows.replace_one({"_id": document_id}, {"_id": document_id, **after.model_dump(exclude={"id"})})
        return after

    def _with_event(self, document: Document, event: EventType) -> Document:
        seq, run = document.seq + 1, document.run
        error = run.error.model_dump() if run.error else None
        told = OutboxEvent(
            event_id=event_id(document.id, seq),
            seq=seq,
            type=event,
            at=self._clock(),
            owner_id=document.owner_id,
            data={"document_id": document.id, "status": document.status, "attempt": run.attempt, "error": error},
        )
        return document.model_copy(update={"seq": seq, "outbox": (*document.outbox, told)})

    def _in(self, seconds: float) -> datetime:
        return self._clock() + timedelta(seconds=seconds)

    @property
    def _rows(self) -> Any:
        return DocumentRecord.get_pymongo_collection()


def _before(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment <= now
