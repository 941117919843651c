"""Wake-ups through SQS, where no Celery worker listens: a Lambda function does."""

import asyncio
import json
import math
import time
from collections.abc import Callable
from typing import Any

import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

log = structlog.get_logger("wakeups")

PAUSE_S = 10.0


class SqsWakeUps:
    """Sends before it returns, since Lambda stops what would go on after an answer; no failure of it reaches anybody.

    After a failure it drops everything for ten seconds: the reconciler sends again what was lost.
    """

    def __init__(
        self, queue_url: str, region: str, *, dropped: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        import boto3  # 100 ms of CPU, as in core/storage/s3.py

        limits = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        self._sqs = boto3.client("sqs", region_name=region, config=limits)
        self._queue_url, self._dropped, self._now = queue_url, dropped, now
        self._closed_until = 0.0

    def send(
        self, task: str, args: tuple[Any, ...], *, queue: str, request_id: str, trace: str = "", after_s: float = 0
    ) -> None:
        """`queue` is Celery's; here one queue wakes all. `after_s`: a quarter of an hour at most."""
        if self._now() < self._closed_until:
            self._dropped()
            return
        body = json.dumps({"task": task, "args": args, "request_id": request_id, "trace": trace})
        try:
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=math.ceil(after_s))
        except (BotoCoreError, ClientError) as error:
            log.warning("wakeup_dropped", task=task, error=type(error).__name__)
            self._dropped()
            self._closed_until = self._now() + PAUSE_S

    async def ping(self) -> None:
        """Raises what botocore raises when the queue does not answer."""
        wanted = {"QueueUrl": self._queue_url, "AttributeNames": ["QueueArn"]}
        await asyncio.to_thread(lambda: self._sqs.get_queue_attributes(**wanted))

    def close(self) -> None:
        self._sqs.close()
