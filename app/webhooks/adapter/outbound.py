"""Signed requests to receivers, and the secrets that sign them."""

import os
from contextlib import suppress

from app.webhooks.domain.delivery import Delivery
from app.webhooks.domain.webhook import Secret, Webhook
from core.clock import Clock
from core.security.egress import EgressAnswer, EgressClient
from core.security.secret_box import SealBroken, SecretBox
from core.security.signing import new_secret, sign

SECRET_BYTES = 32


class SealedSecrets:
    """Random bytes, encrypted for the webhook that they belong to."""

    def __init__(self, box: SecretBox) -> None:
        self._box, self.mark = box, box.mark

    def new(self, webhook_id: str, secret_id: str) -> Secret:
        return Secret(id=secret_id, sealed=self._box.seal(os.urandom(SECRET_BYTES), webhook_id))

    def reveal(self, webhook_id: str, secret: Secret) -> str:
        return new_secret(self._box.open(secret.sealed, webhook_id))

    def sealed_anew(self, webhook_id: str, secret: Secret) -> Secret | None:
        with suppress(SealBroken):
            opened = self._box.open(secret.sealed, webhook_id)
            return secret.model_copy(update={"sealed": self._box.seal(opened, webhook_id)})
        return None


class SignedPosts:
    """Standard Webhooks through the one client for strangers' URLs."""

    def __init__(self, egress: EgressClient, box: SecretBox, clock: Clock) -> None:
        self._egress, self._box, self._clock = egress, box, clock

    async def check_url(self, url: str) -> str:
        return await self._egress.check_url(url)

    async def send(self, webhook: Webhook, delivery: Delivery) -> EgressAnswer:
        now = self._clock()
        keys = [self._box.open(secret.sealed, webhook.id) for secret in webhook.secrets_at(now)]
        signed = sign(keys, delivery.event_id, int(now.timestamp()), delivery.body)
        return await self._egress.post(webhook.url, {"content-type": "application/json", **signed}, delivery.body)
