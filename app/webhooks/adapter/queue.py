"""Wake-ups of deliveries through Celery."""

from core.celery import DELIVERIES, WakeUps
from core.tracing import carried, current_request_id

DELIVER = "webhooks.deliver"


class CeleryDeliveryQueue:
    """A message names nothing: whoever gets it takes what is due."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def wake(self) -> None:
        self._wake_ups.send(DELIVER, (), queue=DELIVERIES, request_id=current_request_id(), trace=carried())
