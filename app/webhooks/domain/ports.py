"""What the webhooks module needs from the world."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from app.webhooks.domain.delivery import Answer, Attempt, Delivery, Status, Verdict
from app.webhooks.domain.webhook import Secret, Webhook
from core.paging import Page, Position


class Webhooks(Protocol):
    """Calls that name the owner are people's and services'; somebody else's webhook is not there."""

    async def add(self, webhook: Webhook, *, most: int) -> Webhook:
        """The stored one, which another run of the same command may have made. Raises TooManyWebhooks."""

    async def get(self, webhook_id: str, owner_id: str) -> Webhook:
        """Raises WebhookNotFound."""

    async def list(self, owner_id: str, after: Position | None, limit: int) -> Page[Webhook]: ...

    async def change(self, webhook: Webhook, fields: dict[str, Any]) -> Webhook:
        """Where it still is at this version. Raises PreconditionFailed."""

    async def remove(self, webhook: Webhook) -> bool:
        """Where it still is of this version and status."""

    async def subscribed(self, owner_id: str, event_type: str) -> Sequence[str]:
        """Ids of the owner's webhooks that want to be told."""

    async def sealed_before(self, mark: str) -> Sequence[Webhook]:
        """Those with a secret that does not begin with this."""

    async def enter(self, webhook_id: str, token: str, *, lease_s: float) -> Webhook | None:
        """Takes a place in it; None while there is none. Raises WebhookNotFound where nothing may be sent any more."""

    async def leave(self, webhook_id: str, token: str, verdict: Verdict | None = None) -> bool:
        """Gives the place back and keeps what the attempt says of the webhook; False when it has ended."""


class Deliveries(Protocol):
    async def add(self, deliveries: Sequence[Delivery]) -> None:
        """What is there already stays as it is."""

    async def get(self, delivery_id: str, owner_id: str) -> Delivery:
        """Raises WebhookNotFound."""

    async def list(
        self, webhook_id: str, status: Status | None, after: Position | None, limit: int
    ) -> Page[Delivery]: ...

    async def reopen(self, delivery_id: str) -> Delivery: ...

    async def recover(self, webhook_id: str, since: datetime) -> int:
        """Reopens all that failed since then; how many."""

    async def exhaust(self, webhook_id: str) -> None:
        """Closes what is open of a webhook that has ended, but for what is under way."""

    async def find_due(self, busy: Collection[str] = ()) -> Delivery | None:
        """What has waited longest, of no webhook in `busy`."""

    async def claim(self, delivery_id: str, token: str, *, lease_s: float) -> Delivery | None:
        """None where it is not due any more."""

    async def close(self, delivery: Delivery, attempt: Attempt | None, verdict: Verdict) -> None:
        """Ends a claim; nothing happens where somebody else holds the row by now."""


class Outbound(Protocol):
    async def check_url(self, url: str) -> str:
        """The form to keep. Raises UrlNotAllowed."""

    async def send(self, webhook: Webhook, delivery: Delivery) -> Answer:
        """One signed request, over in 15 s."""


class Secrets(Protocol):
    def new(self, webhook_id: str, secret_id: str) -> Secret: ...

    def reveal(self, webhook_id: str, secret: Secret) -> str:
        """`whsec_…`."""

    @property
    def mark(self) -> str:
        """How what is sealed with the newest key begins."""

    def sealed_anew(self, webhook_id: str, secret: Secret) -> Secret | None:
        """With the newest key; None where the key that sealed it is gone."""


class DeliveryQueue(Protocol):
    def wake(self, after_s: float = 0) -> None:
        """Something is due, or will be then. May be lost: the periodic task wakes again."""
