"""What a Celery worker process holds between tasks: one event loop, one container, opened after the fork."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import structlog
from celery import Celery

from core import metrics, tracing
from core.errors import AppError
from core.exits import CHILD_NOT_STARTED
from core.telemetry import flush

Work = Callable[..., Coroutine[Any, Any, None]]  # given the container and what the message says

log = structlog.get_logger("worker")


class WorkerProcess:
    """Opens the container once per process and runs every task's coroutine on one loop."""

    def __init__(
        self, enter: Callable[[], AbstractAsyncContextManager[Any]], after: Callable[[Any], Awaitable[None]]
    ) -> None:
        """`enter` builds and opens the container, after the fork; `after` gets it at the end of every task."""
        self._enter, self._after = enter, after
        self._stack = AsyncExitStack()
        self._runner: asyncio.Runner | None = None
        self._container: Any = None

    def start(self) -> None:
        """Ends the process when it cannot start: without a container it would eat the queue."""
        self._runner = asyncio.Runner()
        try:
            self._container = self._runner.run(self._stack.enter_async_context(self._enter()))
        except BaseException:  # Celery swallows what its signal handlers raise
            log.exception("worker_not_started")
            flush()
            os._exit(CHILD_NOT_STARTED)

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.run(self._stack.aclose())
            self._runner.close()

    def register(self, celery: Celery, name: str, work: Work) -> None:
        """A task that runs it here."""

        # What it throws is told below; Celery would say it again, outside of its trace.
        @celery.task(name=name, bind=True, throws=(Exception,))
        def run(task: Any, *args: Any) -> None:
            self.run(lambda container: work(container, *args), task)

    def run(self, work: Callable[[Any], Coroutine[Any, Any, None]], task: Any) -> None:
        """One task, in the trace of whoever asked for it."""
        assert self._runner is not None, "start() comes first"

        def header(name: str) -> str | None:
            return (task.request.headers or {}).get(name) or getattr(task.request, name, None)

        async def traced() -> None:
            with tracing.work(task.name, header("trace") or "", header("request_id")):
                outcome = "failed"
                try:
                    await work(self._container)
                    outcome = "ok"
                except AppError as error:
                    log.warning("task_failed", task=task.name, error=error.code)
                    raise
                except Exception:
                    log.exception("task_failed", task=task.name)
                    raise
                finally:
                    metrics.tasks.labels(task.name, outcome).inc()
                    await self._after(self._container)

        self._runner.run(traced())
