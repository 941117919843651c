"""From an event to a delivery for each webhook that wants it."""

from app.webhooks.domain.delivery import delivery_of
from app.webhooks.domain.events import owner_of
from app.webhooks.domain.ports import Deliveries, DeliveryQueue, Webhooks
from core.events import OutboxEvent


class FanOut:
    """What the relay calls; writes rows of our own, and sends nothing itself."""

    def __init__(self, webhooks: Webhooks, deliveries: Deliveries, queue: DeliveryQueue) -> None:
        self._webhooks, self._deliveries, self._queue = webhooks, deliveries, queue

    async def handle(self, event: OutboxEvent) -> None:
        """Harmless when repeated."""
        owner_id = owner_of(event)
        ids = await self._webhooks.subscribed(owner_id, event.type)
        if ids:
            await self._deliveries.add([delivery_of(id, event, owner_id=owner_id) for id in ids])
            self._queue.wake()
