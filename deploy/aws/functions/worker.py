"""Celery's tasks as a Lambda function: called by SQS for one wake-up, and by a schedule for what beat would send."""

import json
from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from celery import Celery
from celery.signals import worker_process_init

from app.worker import celery_app
from core.config import load_settings
from core.logging import configure_logging
from functions.secrets import into_environment

log = structlog.get_logger("worker")


@cache
def opened() -> Celery:
    """The Celery app of a worker process that has its container; no broker is ever asked."""
    into_environment()
    settings = load_settings()
    configure_logging("worker", level=settings.log_level, fmt="json")
    celery = celery_app()
    worker_process_init.send(sender=None)
    return celery


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Wake-ups that could not be taken are named, and come again; `{"every": "minute" | "hour"}` is the schedule."""
    if "every" in event:
        _periodic(event["every"])
        return {}
    failed = []
    for record in event["Records"]:
        try:
            _wake_up(json.loads(record["body"]))
        except Exception:
            log.exception("wake_up_failed", message_id=record["messageId"])
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _wake_up(message: dict[str, Any]) -> None:
    task = opened().tasks[message["task"]]
    task.apply(args=message["args"], headers={"request_id": message["request_id"]}, throw=True)


def _periodic(every: str) -> None:
    for name, entry in opened().conf.beat_schedule.items():
        if (entry["schedule"] > timedelta(minutes=1)) == (every == "hour"):
            try:
                opened().tasks[name].apply(throw=True)
            except Exception:  # the others are due all the same
                log.exception("periodic_task_failed", task=name)
