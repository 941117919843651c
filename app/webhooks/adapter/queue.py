"""Wake-ups of deliveries through Celery."""

from typing import Any

from core.celery import DELIVERIES, WakeUps
from core.tracing import carried, current_request_id

DELIVER = "webhooks.deliver"


class CeleryDeliveryQueue:
    """A message names nothing: whoever gets it takes what is due."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def wake(self, after_s: float = 0) -> None:
        asked_by: dict[str, Any] = {"request_id": current_request_id(), "trace": carried()}
        self._wake_ups.send(DELIVER, (), queue=DELIVERIES, after_s=after_s, **asked_by)
