"""One attempt to process a document, in a worker: claim, fetch, run, store, complete.

Every write is fenced by the token of the claim, so a worker that was thought dead changes nothing any more.
A loser deletes nothing either: what it stored lies under its own attempt, and the sweep finds it.
"""

import asyncio
import hashlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from app.documents.application.originals import original_place
from app.documents.domain.document import Document, RunResult, StoredObject, result_prefix
from app.documents.domain.limits import FETCH_S, STORE_S
from app.documents.domain.ports import Announcements, Runs
from app.documents.domain.processors import (
    Completed,
    Extraction,
    Failed,
    ProcessingError,
    ProcessRunner,
    RunOutcome,
    RunRequest,
    StopFlag,
)
from app.documents.domain.run_policy import WAIT_FOR_STORAGE_S, RunPolicy, back_off_s
from core.clock import Clock
from core.errors import Unavailable
from core.ids import random_token
from core.storage.base import FileMissing, FileStore

log = structlog.get_logger("documents")

STORING = 95
END_EARLY_S = 5  # our own time-out comes before the hard end of the attempt
HASHED_AT_ONCE_BYTES = 1024 * 1024
CONTENT_TYPES = {
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".ndjson": "application/x-ndjson",
    ".webp": "image/webp",
}


class OriginalAltered(Exception):
    """The stored original is gone or is not what was uploaded."""


@dataclass
class _Claim:
    """What the heartbeat carries: the newest progress, written by the run's thread."""

    document: Document
    token: str
    stop: StopFlag
    started: float = field(default_factory=time.monotonic)
    progress: int = 0
    message: str = "fetching"

    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 2)

    def report(self, progress: int, message: str) -> None:
        self.progress, self.message = progress, message


class Attempts:
    def __init__(
        self,
        runs: Runs,
        files: FileStore,
        runner: ProcessRunner,
        workdir: Callable[[], AbstractContextManager[Path]],
        policy: RunPolicy,
        clock: Clock,
        worker: str,
        announcements: Announcements,
    ) -> None:
        self._runs, self._files, self._runner, self._workdir = runs, files, runner, workdir
        self._policy, self._clock, self._worker = policy, clock, worker
        self._announcements = announcements
        # The kernel ends a child when the thread that started it ends, so this thread stays.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._current: _Claim | None = None

    async def run(self, document_id: str, attempt: int) -> None:
        """Works on exactly this attempt; does nothing when it is not waiting (a late or repeated message)."""
        token = random_token()
        document = await self._runs.claim(document_id, attempt, token=token, worker=self._worker)
        if document is None:
            log.info("wakeup_ignored", document_id=document_id, attempt=attempt)
            return
        log.info("process_started", document_id=document_id, attempt=attempt, processor=document.run.processor)
        claim = self._current = _Claim(document, token, StopFlag())
        try:
            async with self._heartbeat(claim), asyncio.timeout(self._policy.maximum_s - END_EARLY_S):
                await self._work(claim)
        except Exception as error:
            claim.stop.stop("lost")
            await self._end_badly(claim, error)
        finally:
            self._current = None
        await self._announcements.run_for(document_id)

    async def release(self) -> None:
        """Gives the attempt in hand back, because this process stops."""
        claim = self._current
        if claim is not None:
            claim.stop.stop("shutdown")
            await self._runs.release(claim.document.id, claim.token)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self, claim: _Claim) -> None:
        with self._workdir() as workdir:
            path = workdir / "original"
            await self._fetch(claim, path)
            outcome = await self._run(claim, path, workdir)
            if isinstance(outcome, Failed):
                await self._fail(claim, outcome.error(), outcome.reason)
            elif isinstance(outcome, Completed):
                claim.report(STORING, "storing")
                result = await self._store(claim.document, outcome, workdir)
                if await self._runs.complete(claim.document.id, claim.token, result):
                    log.info(
                        "process_completed", document_id=claim.document.id, attempt=claim.document.run.attempt,
                        seconds=claim.seconds(), partial=outcome.partial, cpu_s=round(outcome.usage.cpu_s, 2),
                        children=outcome.usage.children,
                    )  # fmt: skip
                else:
                    self._log_lost(claim)

    async def _fetch(self, claim: _Claim, path: Path) -> None:
        document = claim.document
        files, etag = original_place(self._files, document)
        try:
            async with asyncio.timeout(FETCH_S):
                await files.get(document.key, path, etag=etag)
        except FileMissing as cause:
            raise OriginalAltered from cause
        except TimeoutError as cause:
            raise Unavailable from cause
        _, digest = await _hashed(path)
        if document.sha256 is None:
            await self._runs.hashed(document.id, claim.token, digest)
        elif document.sha256 != digest:
            raise OriginalAltered

    async def _run(self, claim: _Claim, path: Path, workdir: Path) -> RunOutcome:
        run = claim.document.run
        assert run.processor is not None, "a claimed run names its processor"
        assert run.requested_at is not None
        request = RunRequest(
            processor=run.processor,
            path=path,
            content_type=claim.document.content_type,
            workdir=workdir,
            run_key=f"{claim.document.id}:{run.requested_at.timestamp():.3f}",
            options=run.options,
        )
        loop = asyncio.get_running_loop()
        run_ended = loop.run_in_executor(self._thread, self._runner.run, request, claim.stop, claim.report)
        try:
            return await asyncio.shield(run_ended)
        except asyncio.CancelledError:
            claim.stop.stop("lost")
            await asyncio.wait([run_ended])  # the child is gone before its folder is
            raise

    async def _store(self, document: Document, outcome: Completed, workdir: Path) -> RunResult:
        """Objects first; the record that names them is the caller's next step."""
        whole = workdir / "result.json"
        whole.write_text(json.dumps(_result_body(document, outcome)), "utf-8")
        prefix = result_prefix(document.id, document.run.attempt)
        try:
            async with asyncio.timeout(STORE_S):
                stored = await asyncio.gather(*(self._put(prefix, file) for file in (*outcome.files, whole)))
        except TimeoutError as cause:
            raise Unavailable from cause
        extraction = outcome.result if isinstance(outcome.result, Extraction) else None
        return RunResult(
            attempt=document.run.attempt,
            processor=outcome.processor,
            version=outcome.version,
            partial=outcome.partial,
            warnings=outcome.warnings,
            summary=extraction.summary() if extraction else None,
            objects=dict(stored),
        )

    async def _put(self, prefix: str, file: Path) -> tuple[str, StoredObject]:
        key = prefix + file.name
        size, digest = await _hashed(file)
        with file.open("rb") as source:
            await self._files.put(key, source, CONTENT_TYPES[file.suffix])
        return file.name, StoredObject(key=key, size=size, sha256=digest)

    @asynccontextmanager
    async def _heartbeat(self, claim: _Claim) -> AsyncIterator[None]:
        beats = asyncio.create_task(self._beat(claim))
        try:
            yield
        finally:
            beats.cancel()
            with suppress(asyncio.CancelledError):
                await beats

    async def _beat(self, claim: _Claim) -> None:
        while True:
            await asyncio.sleep(self._policy.beat_s)
            try:
                ours = await self._runs.beat(
                    claim.document.id, claim.token, progress=claim.progress, message=claim.message
                )
            except Unavailable:
                continue  # keep working: the fence decides
            if not ours:
                claim.stop.stop("lost")
                return

    async def _end_badly(self, claim: _Claim, error: Exception) -> None:
        document, run = claim.document, claim.document.run
        if isinstance(error, OriginalAltered):
            await self._fail(claim, ProcessingError.of("storage_unavailable", retryable=False), "original altered")
        elif isinstance(error, TimeoutError):
            await self._fail(claim, ProcessingError.of("timeout"), "maximum run")
        elif isinstance(error, Unavailable):
            assert run.requested_at is not None
            if self._clock() - run.requested_at > timedelta(seconds=WAIT_FOR_STORAGE_S):
                await self._fail(claim, ProcessingError.of("storage_unavailable"), "away for too long")
            else:
                log.warning("process_postponed", document_id=document.id, attempt=run.attempt, error=error.code)
                await self._runs.postpone(document.id, claim.token, delay_s=self._back_off_s(run.waits))
        else:
            log.error("process_error", document_id=document.id, attempt=run.attempt, exc_info=error)
            if run.tries >= self._policy.tries:
                await self._fail(claim, ProcessingError.of("internal"), type(error).__name__)
            else:
                await self._runs.retry(document.id, claim.token, delay_s=self._back_off_s(run.tries - 1))

    async def _fail(self, claim: _Claim, error: ProcessingError, reason: str) -> None:
        if await self._runs.fail(claim.document.id, claim.token, error):
            log.warning(
                "process_failed", document_id=claim.document.id, attempt=claim.document.run.attempt,
                seconds=claim.seconds(), code=error.code, reason=reason,
            )  # fmt: skip
        else:
            self._log_lost(claim)

    def _log_lost(self, claim: _Claim) -> None:
        log.warning("process_lost", document_id=claim.document.id, attempt=claim.document.run.attempt)

    def _back_off_s(self, repeats: int) -> float:
        return back_off_s(repeats, random.uniform(-1, 1))  # noqa: S311 – spreads load, guards nothing


async def _hashed(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256; a small file costs less than a thread."""
    return _hash(path) if _is_small(path) else await asyncio.to_thread(_hash, path)


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= HASHED_AT_ONCE_BYTES


def _hash(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _result_body(document: Document, outcome: Completed) -> dict[str, object]:
    """`Result` of the API, without the status: that is the record's to say."""
    return {
        "document_id": document.id,
        "attempt": document.run.attempt,
        "processor": {"name": outcome.processor, "version": outcome.version},
        "partial": outcome.partial,
        "warnings": [warning.model_dump() for warning in outcome.warnings],
        "result": outcome.value(),
    }
