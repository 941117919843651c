"""The Celery app: `celery -A app.worker worker` and `beat` work by themselves, `main.py` starts them the same way."""

import os
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import celery.apps.worker
import structlog
from billiard.util import get_logger
from celery import Celery
from celery.platforms import SecurityWarning  # type: ignore[attr-defined]
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
from kombu import Exchange, Queue

from app import events, snapshot
from app.container import Container, build_container
from app.documents.adapter.runner import sweep_workdirs
from app.documents.adapter.supervisor import can_confine, harden_worker
from app.metrics import count_line
from app.modules import selected
from app.runtime import running
from core.celery import DELIVERIES, PERIODIC, QUEUES, broker_of, make_celery
from core.config import ConfigError, Settings, load_settings
from core.logging import configure_logging
from core.telemetry import export_spans, flush, init_sentry
from core.worker_process import WorkerProcess

log = structlog.get_logger("worker")


def __getattr__(name: str) -> Any:
    """`app` is made when Celery asks for it, so that importing this module does nothing."""
    if name == "app":
        return celery_app()
    raise AttributeError(name)


@cache
def celery_app() -> Celery:
    # It warns of root because of pickle, which we do not accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    settings = load_settings()
    if not broker_of(settings):
        raise ConfigError("REDIS_URL: must be set, or start with `python main.py --env local`")
    if settings.is_prod and not can_confine():
        raise ConfigError("APP_ENV: this platform cannot confine the readers of documents, so prod does not run here")
    settings.data_dir.mkdir(parents=True, exist_ok=True)  # beat keeps its schedule there
    app = make_celery(broker_of(settings), in_worker=True)
    # Without it a worker that names no queue would take the default one alone, and nothing would be reconciled.
    app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in queue_names(settings)]
    app.conf.beat_schedule = {}
    process = WorkerProcess(lambda: _opened(settings), lambda container: container.measurements().add_counts())
    tasks, schedule = {**events.TASKS, **snapshot.TASKS}, dict(snapshot.SCHEDULE)
    for module in selected(settings).values():
        tasks |= module.tasks()
        schedule |= module.schedule(settings)
    for task, work in tasks.items():
        process.register(app, task, work)
    for task, every in schedule.items():
        options = {"queue": settings.queue_prefix + PERIODIC, "expires": 3 * every.total_seconds()}
        app.conf.beat_schedule[task] = {"task": task, "schedule": every, "options": options}
    app.conf.beat_schedule_filename = str(settings.data_dir / "beat-schedule")
    app.conf.beat_max_loop_interval = 5
    _connect_signals(settings, process)
    return app


def queue_names(settings: Settings, chosen: str | None = None) -> list[str]:
    """What a worker of this service takes: all, or a comma list of them. Raises ConfigError."""
    names = [name.strip() for name in chosen.split(",")] if chosen else list(QUEUES)
    if not set(names) <= set(QUEUES):
        raise ConfigError(f"--queues: must be a comma list of {', '.join(QUEUES)}")
    told = events.event_queues(selected(settings)) if DELIVERIES in names else []
    return [settings.queue_prefix + name for name in names] + told


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Container]:
    harden_worker()
    sweep_workdirs(Path(tempfile.gettempdir()))
    async with running(build_container(settings, "worker")) as container:
        if "documents" not in selected(settings):
            yield container
            return
        attempts = container.documents.attempts()
        try:
            yield container
        finally:
            await attempts.release()
            attempts.close()


def _connect_signals(settings: Settings, process: WorkerProcess) -> None:
    service = os.environ.get("DOSSIER_SERVICE", "worker")

    @setup_logging.connect(weak=False)
    def _logging(**_: Any) -> None:
        report = init_sentry(settings, service)
        configure_logging(service, level=settings.log_level, fmt=settings.log_format, count=count_line, report=report)
        get_logger().propagate = True  # the pool's own logger, which nobody would listen to
        # It would print its own sentences to stdout.
        celery.apps.worker.safe_say = lambda text, *_: log.info("celery", message=text)  # type: ignore[attr-defined]

    @worker_process_init.connect(weak=False)
    def _start(**_: Any) -> None:
        export_spans(settings, service)
        process.start()

    @worker_process_shutdown.connect(weak=False)
    def _stop(**_: Any) -> None:
        process.stop()
        flush()
