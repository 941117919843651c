"""The Celery app and the wake-ups sent through it. A message is only a wake-up: MongoDB holds the queue."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import structlog
from celery import Celery

from core.config import Settings

log = structlog.get_logger("wakeups")

DOCUMENTS, PIPELINES, DELIVERIES, PERIODIC = QUEUES = ("documents", "pipelines", "deliveries", "periodic")
SENDERS, MOST_WAITING = 4, 200
FAILURES_TO_OPEN, OPEN_S = 3, 10.0


def make_celery(broker_url: str, *, in_worker: bool) -> Celery:
    """A Celery app with the settings that reliability needs; why each: docs/reliability.md."""
    app = Celery("dossier", broker=broker_url, set_as_current=in_worker)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_time_limit=660,
        task_ignore_result=True,
        worker_max_tasks_per_child=1000,  # against what libraries leak; a new child imports everything again
        worker_soft_shutdown_timeout=25,
        worker_proc_alive_timeout=30,  # on a busy machine a child needs more than the usual four seconds to start
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2 if in_worker else 1,
        broker_transport_options=_redis_options(in_worker=in_worker) if is_redis(broker_url) else {},
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0.1,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
        task_default_queue="documents",
        task_serializer="json",
        accept_content=["json"],
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        timezone="UTC",
    )
    return app


def broker_of(settings: Settings) -> str:
    """Where messages go; empty until Redis is known."""
    url = settings.broker_url or settings.redis_url
    return url.get_secret_value() if url else ""


def is_redis(broker_url: str) -> bool:
    return broker_url.startswith(("redis://", "rediss://"))


def _redis_options(*, in_worker: bool) -> dict[str, Any]:
    return {
        "visibility_timeout": 3600,
        "socket_keepalive": True,
        "socket_timeout": 5 if in_worker else 2,
        "socket_connect_timeout": 2 if in_worker else 1,
    }


def event_queue(module: str) -> str:
    """Where a module is told of events of other services: the same name for all of them."""
    return f"events.{module}"


class WakeUps:
    """Sends messages from threads of its own; nobody waits for it and no failure of it reaches anybody.

    After three failures in a row it drops everything for ten seconds: the reconciler sends again what was lost.
    """

    def __init__(
        self, celery: Celery, prefix: str, *, dropped: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`prefix`: of the names of this service's queues."""
        self._celery, self._prefix, self._dropped, self._now = celery, prefix, dropped, now
        self._threads = ThreadPoolExecutor(SENDERS, thread_name_prefix="wakeup")
        self._lock = Lock()
        self._waiting = self._failures = 0
        self._closed_until = 0.0

    def send(
        self, task: str, args: tuple[Any, ...], *, queue: str, request_id: str, trace: str = "", after_s: float = 0
    ) -> None:
        """`trace`: what the work goes on with (core/tracing.py). `after_s`: until then a worker keeps it."""
        with self._lock:
            if self._waiting >= MOST_WAITING or self._now() < self._closed_until:
                self._dropped()
                return
            self._waiting += 1
        try:
            options: dict[str, Any] = {
                "queue": self._prefix + queue if queue in QUEUES else queue,
                "headers": {"request_id": request_id, "trace": trace},
                **({"countdown": after_s} if after_s else {}),
            }
            self._threads.submit(self._publish, task, args, options)
        except RuntimeError:  # shutting down
            self._dropped()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _publish(self, task: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            self._celery.send_task(task, args=args, **options)
        except Exception as error:
            log.warning("wakeup_dropped", task=task, error=type(error).__name__)
            self._dropped()
            with self._lock:
                self._failures += 1
                if self._failures >= FAILURES_TO_OPEN:
                    self._closed_until, self._failures = self._now() + OPEN_S, 0
        else:
            with self._lock:
                self._failures = 0
        finally:
            with self._lock:
                self._waiting -= 1
