"""Moments at which a process dies, stops or repeats itself, and times shortened for tests."""

import functools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pymongo
import structlog
from celery import Celery
from pymongo import monitoring

import core.mongo
from app import worker
from app.documents.adapter.mongo_runs import MongoRuns
from app.documents.adapter.queue import PROCESS, CeleryProcessingQueue
from app.documents.adapter.supervisor import harden_worker
from app.documents.application import attempt
from app.documents.domain import run_policy
from app.documents.domain.document import RunResult
from app.documents.domain.ports import WakeUp
from core import celery, relay
from core.celery import WakeUps
from core.clock import utc_now
from tests.integration.faults.patches import Patch, named

log = structlog.get_logger("faults")

REPEATS = 5


def publish_hangs(patch: Patch) -> None:
    """A process that dies now dies between commit and publish."""
    patch(WakeUps, "_publish", lambda *_: threading.Event().wait())


def die_before_publish(patch: Patch) -> None:
    """Before the answer, too."""

    def wake(queue: CeleryProcessingQueue, wake_up: WakeUp) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    patch(CeleryProcessingQueue, "wake", wake)


def repeat_messages(patch: Patch) -> None:
    publish = WakeUps._publish

    def repeated(wake_ups: WakeUps, *message: Any) -> None:
        for _ in range(REPEATS):
            publish(wake_ups, *message)

    patch(WakeUps, "_publish", repeated)


def stop_before_complete(patch: Patch) -> None:
    """A first attempt freezes with its result in hand, and tries to write it when somebody thaws it."""
    complete = MongoRuns.complete

    async def stopped(runs: MongoRuns, document_id: str, token: str, result: RunResult) -> bool:
        if result.attempt == 1:
            log.info("frozen", document_id=document_id, pid=os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
        return await complete(runs, document_id, token, result)

    patch(MongoRuns, "complete", stopped)


def die_around_complete(patch: Patch) -> None:
    """`POINTS`, a JSON file, says by document at which command of the database, sent or answered, it ends."""
    points = json.loads(Path(os.environ["POINTS"]).read_text())
    countdown = _Countdown()
    monitoring.register(countdown)
    complete = MongoRuns.complete

    async def watched(runs: MongoRuns, document_id: str, token: str, result: RunResult) -> bool:
        countdown.left = points.get(document_id, 0) if result.attempt == 1 else 0
        countdown.document_id = document_id
        return await complete(runs, document_id, token, result)

    patch(MongoRuns, "complete", watched)


class _Countdown(monitoring.CommandListener):
    left, document_id = 0, ""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self._count()

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._count()

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._count()

    def _count(self) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                log.info("killed", document_id=self.document_id)
                os.kill(os.getpid(), signal.SIGKILL)


def setup_fails_at_first(patch: Patch) -> None:
    """The first three children cannot be set up; `FAILURES` is a folder in which they count themselves."""
    failures = Path(os.environ["FAILURES"])

    def failing() -> None:
        if len(list(failures.iterdir())) < 3:
            (failures / str(os.getpid())).touch()
            raise FileNotFoundError
        harden_worker()

    patch(worker, "harden_worker", failing)


def tell_of_wake_ups(patch: Patch) -> None:
    """Those that Redis has taken, and when they were sent off: what is flushed after that moment did not exist yet."""
    send = Celery.send_task

    def told(app: Celery, name: str, args: Any = None, *more: Any, **options: Any) -> Any:
        asked_at = utc_now().isoformat()
        sent = send(app, name, args, *more, **options)
        if name == PROCESS:
            log.info("wakeup_sent", document_id=args[0], attempt=args[1], asked_at=asked_at)
        return sent

    patch(Celery, "send_task", told)


def tell_who_claims(patch: Patch) -> None:
    """The child, which `run.worker` does not name: it holds the process in which the application was imported."""
    claim = MongoRuns.claim

    async def told(runs: MongoRuns, document_id: str, attempt: int, **by: str) -> Any:
        claimed = await claim(runs, document_id, attempt, **by)
        if claimed is not None:
            log.info("claimed", document_id=document_id, attempt=attempt, pid=os.getpid())
        return claimed

    patch(MongoRuns, "claim", told)


def short_times(patch: Patch) -> None:
    """Seconds instead of minutes, where a test has to wait for them."""
    patch(run_policy, "BACK_OFF_S", 1)
    patch(attempt, "FETCH_S", 2)
    patch(relay, "LEASE_S", 3)


def short_selection(patch: Patch) -> None:
    """A worker gives MongoDB up after one second, not thirty."""
    make = functools.partial(pymongo.AsyncMongoClient)

    def impatient(*args: Any, **options: Any) -> Any:
        return make(*args, **options | {"serverSelectionTimeoutMS": 1000})

    patch(core.mongo, "AsyncMongoClient", impatient)


def short_stop(patch: Patch) -> None:
    """A worker that is asked to stop gives its tasks one second, not 25."""
    make = celery.make_celery

    def impatient(*args: Any, **options: Any) -> Any:
        app = make(*args, **options)
        app.conf.worker_soft_shutdown_timeout = 1
        return app

    patch(worker, "make_celery", impatient)


FAILPOINTS = named(
    publish_hangs,
    die_before_publish,
    repeat_messages,
    stop_before_complete,
    die_around_complete,
    setup_fails_at_first,
    tell_of_wake_ups,
    tell_who_claims,
    short_times,
    short_selection,
    short_stop,
)
