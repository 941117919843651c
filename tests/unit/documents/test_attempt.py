"""One attempt of a worker, with a runner and a storage that do as told."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from app.documents.application.attempt import Attempts
from app.documents.domain.document import Document, Run, RunResult, Source
from app.documents.domain.processors import Completed, Failed, ProcessingError, RunOutcome, RunRequest, Stopped, Usage
from app.documents.domain.run_policy import RunPolicy, back_off_s
from core.clock import utc_now
from core.storage.base import FileMissing, StorageUnavailable

CONTENT = b"original"
RESULT = Completed("extract", "1", {"answer": 42}, False, (), (), Usage())


class Runs:
    """Remembers what the attempt asked for; grants what the test grants."""

    def __init__(self, **run: Any) -> None:
        now = utc_now()
        state = {"state": "running", "attempt": 3, "tries": 1, "processor": "extract", "requested_at": now, **run}
        self.document = Document(
            id="doc_1", owner_id="usr_1", filename="a.pdf", content_type="application/pdf", size=len(CONTENT),
            sha256=hashlib.sha256(CONTENT).hexdigest(), key="original", status="PROCESSING", run=Run(**state),
            created_at=now, updated_at=now,
        )  # fmt: skip
        self.steps: list[tuple[str, Any]] = []
        self.beats: list[tuple[int, str]] = []
        self.claimable = self.ours = True

    async def claim(self, document_id: str, attempt: int, *, token: str, worker: str) -> Document | None:
        return self.document if self.claimable else None

    async def beat(self, document_id: str, token: str, *, progress: int, message: str) -> bool:
        self.beats.append((progress, message))
        return self.ours

    async def hashed(self, document_id: str, token: str, sha256: str) -> bool:
        self.steps.append(("hashed", sha256))
        return self.ours

    async def complete(self, document_id: str, token: str, result: RunResult) -> bool:
        self.steps.append(("complete", result))
        return self.ours

    async def fail(self, document_id: str, token: str, error: ProcessingError) -> bool:
        self.steps.append(("fail", error))
        return self.ours

    async def retry(self, document_id: str, token: str, *, delay_s: float) -> bool:
        self.steps.append(("retry", delay_s))
        return self.ours

    async def postpone(self, document_id: str, token: str, *, delay_s: float) -> bool:
        self.steps.append(("postpone", delay_s))
        return self.ours

    async def release(self, document_id: str, token: str) -> bool:
        self.steps.append(("release", None))
        return self.ours


class Files:
    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.get_error: Exception | None = None
        self.put_error: Exception | None = None
        self.content = CONTENT

    def at(self, bucket: str) -> "Files":
        self.bucket = bucket
        return self

    async def get(self, key: str, target: Path, *, etag: str | None = None) -> None:
        self.asked = (key, etag)
        if self.get_error:
            raise self.get_error
        target.write_bytes(self.content)

    async def put(self, key: str, source: BinaryIO, content_type: str) -> None:
        if self.put_error:
            raise self.put_error
        source.seek(0)
        self.stored[key] = source.read()


class Runner:
    def __init__(self, outcome: RunOutcome | Exception = RESULT, seconds: float = 0, heeds_stop: bool = True) -> None:
        self.outcome, self.seconds = outcome, seconds
        self.stopped_by: str | None = None

    def run(self, request: RunRequest, stop: Any, report: Callable[[int, str], None]) -> RunOutcome:
        import time

        assert request.path.read_bytes() == CONTENT
        report(40, "reading page 2 of 5")
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            if stop.reason:
                self.stopped_by = stop.reason
                return Stopped("lost")
            time.sleep(0.01)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Announcements:
    async def run_for(self, aggregate_id: str) -> None:
        """Nobody listens."""


class Worker:
    """An attempt service with its parts at hand."""

    def __init__(self, runner: Runner, *, maximum_s: float = 600, **run: Any) -> None:
        self.runs, self.files, self.runner = Runs(**run), Files(), runner
        self.folders: list[Path] = []
        policy = RunPolicy(lease_s=0.15, interval_s=1, maximum_s=maximum_s)
        parts = (self.runs, self.files, runner, self._workdir, policy, utc_now, "here:1", Announcements())
        world: tuple[Any, ...] = parts
        self.attempts = Attempts(*world)

    async def run(self) -> list[str]:
        await self.attempts.run("doc_1", 3)
        self.attempts.close()
        assert not any(folder.exists() for folder in self.folders)
        return [step for step, _ in self.runs.steps]

    @contextmanager
    def _workdir(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            self.folders.append(Path(folder))
            yield Path(folder)


async def test_objects_are_stored_before_the_run_is_completed() -> None:
    worker = Worker(Runner())
    assert await worker.run() == ["complete"]
    result: RunResult = worker.runs.steps[0][1]
    stored = result.objects["result.json"]
    assert stored.key == "_dossier/results/doc_1/3/result.json"
    body = worker.files.stored[stored.key]
    assert (stored.size, stored.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert json.loads(body)["result"] == {"answer": 42}


async def test_a_message_for_an_attempt_that_does_not_wait_is_dropped() -> None:
    worker = Worker(Runner())
    worker.runs.claimable = False
    assert await worker.run() == []
    assert worker.files.stored == {}


async def test_the_heartbeat_carries_the_progress() -> None:
    worker = Worker(Runner(seconds=0.3))
    await worker.run()
    assert (40, "reading page 2 of 5") in worker.runs.beats


async def test_a_run_that_is_no_longer_ours_is_stopped_and_writes_nothing() -> None:
    worker = Worker(Runner(seconds=5))
    worker.runs.ours = False
    started = asyncio.get_running_loop().time()
    assert await worker.run() == []
    assert asyncio.get_running_loop().time() - started < 2
    assert worker.runner.stopped_by == "lost"
    assert worker.files.stored == {}


async def test_what_the_reader_says_is_final() -> None:
    worker = Worker(Runner(Failed("document_corrupt", "xref")))
    assert await worker.run() == ["fail"]
    assert worker.runs.steps[0][1] == ProcessingError.of("document_corrupt")


@pytest.mark.parametrize("where", ["get_error", "put_error"])
async def test_an_outage_of_the_storage_is_waited_out(where: str) -> None:
    worker = Worker(Runner(), waits=2)
    setattr(worker.files, where, StorageUnavailable())
    assert await worker.run() == ["postpone"]
    assert 16 <= worker.runs.steps[0][1] <= 24


async def test_an_outage_of_a_day_is_an_error() -> None:
    worker = Worker(Runner(), requested_at=utc_now() - timedelta(hours=25))
    worker.files.get_error = StorageUnavailable()
    assert await worker.run() == ["fail"]
    assert worker.runs.steps[0][1] == ProcessingError.of("storage_unavailable")


@pytest.mark.parametrize("altered", [True, False])
async def test_an_original_that_is_gone_or_altered_is_not_tried_again(altered: bool) -> None:
    worker = Worker(Runner())
    if altered:
        worker.files.content = b"something else"
    else:
        worker.files.get_error = FileMissing()
    assert await worker.run() == ["fail"]
    assert worker.runs.steps[0][1] == ProcessingError.of("storage_unavailable", retryable=False)


async def test_a_scanned_document_is_read_where_its_host_keeps_it_and_then_has_a_hash() -> None:
    worker = Worker(Runner())
    source = Source(
        folder_id="fld_1", bucket="imports", path="in/a.pdf", etag='"e1"', generation=1, created_generation=1
    )
    worker.runs.document = worker.runs.document.model_copy(update={"source": source, "key": "in/a.pdf", "sha256": None})
    assert await worker.run() == ["hashed", "complete"]
    assert (worker.files.bucket, worker.files.asked) == ("imports", ("in/a.pdf", "e1"))
    assert worker.runs.steps[0][1] == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(("tries", "step"), [(1, "retry"), (4, "retry"), (5, "fail")])
async def test_the_unexpected_is_tried_five_times(tries: int, step: str) -> None:
    worker = Worker(Runner(RuntimeError("bug")), tries=tries)
    assert await worker.run() == [step]
    if step == "fail":
        assert worker.runs.steps[0][1] == ProcessingError.of("internal")


async def test_an_attempt_ends_before_its_hard_end() -> None:
    worker = Worker(Runner(seconds=20), maximum_s=5.3)
    assert await worker.run() == ["fail"]
    assert worker.runs.steps[0][1] == ProcessingError.of("timeout")
    assert worker.runner.stopped_by == "lost"


async def test_a_process_that_stops_gives_its_attempt_back() -> None:
    worker = Worker(Runner(seconds=5))
    running = asyncio.create_task(worker.run())
    while not worker.runs.beats:
        await asyncio.sleep(0.01)
    await worker.attempts.release()
    worker.runs.ours = False
    assert await running == ["release"]
    assert worker.runner.stopped_by == "shutdown"


def test_pauses_grow_and_are_spread() -> None:
    assert [back_off_s(repeats, 0) for repeats in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (back_off_s(0, 1), back_off_s(0, -1)) == (6, 4)
    assert back_off_s(10_000, 0) == 300
