"""What people and services do with their webhooks."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from app.webhooks.domain.delivery import RECOVERABLE, Delivery, Status, delivery_of
from app.webhooks.domain.errors import WebhookDisabled
from app.webhooks.domain.events import TEST, check_events
from app.webhooks.domain.ports import Deliveries, DeliveryQueue, Outbound, Secrets, Webhooks
from app.webhooks.domain.webhook import HEALTHY, MOST_OF_ONE_OWNER, Webhook
from core.clock import Clock
from core.events import OutboxEvent
from core.ids import id_for
from core.paging import Page, Position

log = structlog.get_logger("webhooks")


class WebhookService:
    def __init__(
        self, webhooks: Webhooks, deliveries: Deliveries, secrets: Secrets, outbound: Outbound, queue: DeliveryQueue,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._webhooks, self._deliveries, self._secrets = webhooks, deliveries, secrets
        self._outbound, self._queue, self._clock = outbound, queue, clock

    async def create(
        self, owner_id: str, url: str, events: Sequence[str], *, for_service: bool, command_id: str | None
    ) -> tuple[Webhook, str]:
        """The webhook and its secret. Raises EventNotAllowed, UrlNotAllowed or TooManyWebhooks."""
        check_events(events, for_service=for_service)
        kept_url, now, webhook_id = await self._outbound.check_url(url), self._clock(), id_for("whk", command_id)
        secret = self._secrets.new(webhook_id, id_for("sec", command_id))
        webhook = Webhook(
            id=webhook_id, owner_id=owner_id, url=kept_url, events=tuple(events), secrets=(secret,), created_at=now,
            updated_at=now,
        )  # fmt: skip
        stored = await self._webhooks.add(webhook, most=MOST_OF_ONE_OWNER)
        return stored, self._secrets.reveal(stored.id, stored.secrets[0])

    async def get(self, owner_id: str, webhook_id: str) -> Webhook:
        return await self._webhooks.get(webhook_id, owner_id)

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Webhook]:
        return await self._webhooks.list(owner_id, after, limit)

    async def change(
        self, owner_id: str, webhook_id: str, fields: dict[str, Any], *, for_service: bool,
        demand: Callable[[Webhook], None],
    ) -> Webhook:  # fmt: skip
        """`demand` may refuse the state that was read; what is written replaces exactly that state."""
        webhook = await self._webhooks.get(webhook_id, owner_id)
        demand(webhook)
        check_events(fields.get("events", ()), for_service=for_service)
        if "url" in fields:
            fields = {**fields, "url": await self._outbound.check_url(fields["url"])}
        if fields.get("status") == "active":
            fields = {**fields, **HEALTHY}
        changed = await self._changed(webhook, fields)
        if changed.status == "disabled":
            await self._deliveries.exhaust(webhook_id)
        return changed

    async def remove(self, owner_id: str, webhook_id: str, *, demand: Callable[[Webhook], None]) -> None:
        """Raises WebhookNotFound; `demand` as for `change`."""
        while True:
            webhook = await self._webhooks.get(webhook_id, owner_id)
            demand(webhook)
            if await self._webhooks.remove(webhook):
                break
        await self._deliveries.exhaust(webhook_id)

    async def rotate(self, owner_id: str, webhook_id: str, command_id: str | None) -> str:
        """The new secret; the one before signs as well for a day."""
        webhook = await self._webhooks.get(webhook_id, owner_id)
        secret_id = id_for("sec", command_id)
        made = next((secret for secret in webhook.secrets if secret.id == secret_id), None)
        if made is None:  # no earlier run of this command got that far
            made = self._secrets.new(webhook_id, secret_id)
            await self._changed(webhook, {"secrets": webhook.with_newer(made, self._clock())})
        return self._secrets.reveal(webhook_id, made)

    async def test(self, owner_id: str, webhook_id: str, command_id: str | None) -> Delivery:
        """Whatever it subscribed to. Raises WebhookNotFound or WebhookDisabled."""
        await self._active(owner_id, webhook_id)
        event = OutboxEvent(
            event_id=id_for("evt", command_id), seq=1, type=TEST, at=self._clock(), owner_id=owner_id,
            data={"webhook_id": webhook_id},
        )  # fmt: skip
        delivery = delivery_of(webhook_id, event, owner_id=owner_id)
        await self._deliveries.add([delivery])
        self._queue.wake()
        return await self._deliveries.get(delivery.id, owner_id)

    async def list_deliveries(
        self, owner_id: str, webhook_id: str, status: Status | None, after: Position | None, limit: int
    ) -> Page[Delivery]:
        webhook = await self._webhooks.get(webhook_id, owner_id)
        return await self._deliveries.list(webhook.id, status, after, limit)

    async def redeliver(self, owner_id: str, delivery_id: str) -> Delivery:
        """Raises WebhookNotFound, also where the webhook is gone, or WebhookDisabled."""
        delivery = await self._deliveries.get(delivery_id, owner_id)
        await self._active(owner_id, delivery.webhook_id)
        reopened = await self._deliveries.reopen(delivery_id)
        self._queue.wake()
        return reopened

    async def recover(self, owner_id: str, webhook_id: str, since: datetime) -> int:
        """How many are sent again: what failed since then, within fourteen days."""
        await self._active(owner_id, webhook_id)
        now = self._clock()
        count = await self._deliveries.recover(webhook_id, min(max(since, now - RECOVERABLE), now))
        self._queue.wake()
        return count

    async def seal_anew(self) -> None:
        """Secrets under an earlier key get the newest one; those whose key is gone end their webhook."""
        for webhook in await self._webhooks.sealed_before(self._secrets.mark):
            renewed = [self._secrets.sealed_anew(webhook.id, secret) for secret in webhook.secrets]
            readable = tuple(secret for secret in renewed if secret is not None)
            if len(readable) == len(renewed):
                await self._changed(webhook, {"secrets": readable})
            elif webhook.status != "disabled":
                log.error("webhook_secret_unreadable", webhook_id=webhook.id)
                await self._changed(webhook, {"status": "disabled"})
                await self._deliveries.exhaust(webhook.id)

    async def _changed(self, webhook: Webhook, fields: dict[str, Any]) -> Webhook:
        return await self._webhooks.change(webhook, {**fields, "updated_at": self._clock()})

    async def _active(self, owner_id: str, webhook_id: str) -> None:
        if (await self._webhooks.get(webhook_id, owner_id)).status == "disabled":
            raise WebhookDisabled
