"""Celery's tasks as a Lambda function: called by SQS for one wake-up, and by a schedule for what beat would send."""

import json
import subprocess
import sys
from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_init

from app.worker import celery_app
from functions.secrets import into_environment

log = structlog.get_logger("worker")


@cache
def opened() -> Celery:
    """The Celery app of a worker process that has its container; no broker is ever asked."""
    into_environment()
    celery = celery_app()
    setup_logging.send(sender=None)
    worker_process_init.send(sender=None)
    return celery


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Wake-ups that could not be taken are named and come again; the schedule says `every`, a roll-out `migrate`."""
    if "migrate" in event:
        into_environment()
        subprocess.run([sys.executable, "main.py", "migrate"], check=True)
        return {}
    celery = opened()
    if "every" in event:
        _periodic(celery, hourly=event["every"] == "hour")
        return {}
    failed = []
    for record in event["Records"]:
        try:
            _wake_up(celery, json.loads(record["body"]))
        except Exception:
            log.exception("wake_up_failed", message_id=record["messageId"])
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _wake_up(celery: Celery, message: dict[str, Any]) -> None:
    task = celery.tasks[message["task"]]
    headers = {"request_id": message["request_id"], "trace": message.get("trace", "")}
    task.apply(args=message["args"], headers=headers, throw=True)


def _periodic(celery: Celery, *, hourly: bool) -> None:
    failed = []
    for name, entry in celery.conf.beat_schedule.items():
        if (entry["schedule"] > timedelta(minutes=1)) == hourly:
            try:
                celery.tasks[name].apply(throw=True)
            except Exception:  # the others are due all the same
                log.exception("periodic_task_failed", task=name)
                failed.append(name)
    if failed:
        raise RuntimeError(f"failed: {', '.join(failed)}")  # counts as an error of the function, which has an alarm
