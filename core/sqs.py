"""Wake-ups through SQS, where no Celery worker listens: a Lambda function does."""

import json
from collections.abc import Callable
from typing import Any

import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

log = structlog.get_logger("wakeups")


class SqsWakeUps:
    """Sends at once, since Lambda stops what would go on after an answer; a failure reaches nobody, as with Celery."""

    def __init__(self, queue_url: str, region: str, *, dropped: Callable[[], None]) -> None:
        import boto3

        limits = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        self._sqs = boto3.client("sqs", region_name=region, config=limits, endpoint_url=None)
        self._queue_url, self._dropped = queue_url, dropped

    def send(self, task: str, args: tuple[Any, ...], *, queue: str, request_id: str) -> None:
        """`queue` is Celery's; here one queue wakes all."""
        body = json.dumps({"task": task, "args": args, "request_id": request_id})
        try:
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body)
        except (BotoCoreError, ClientError) as error:
            log.warning("wakeup_dropped", task=task, error=type(error).__name__)
            self._dropped()

    def close(self) -> None:
        self._sqs.close()
