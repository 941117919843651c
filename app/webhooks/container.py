"""Wiring of the webhooks module."""

import random
from functools import partial
from typing import Any

from dependency_injector import containers, providers

from app.webhooks.adapter.mongo import MongoWebhooks, WebhookKeyRecord
from app.webhooks.adapter.mongo_deliveries import MongoDeliveries
from app.webhooks.adapter.outbound import SealedSecrets, SignedPosts
from app.webhooks.adapter.queue import CeleryDeliveryQueue
from app.webhooks.application.dispatch import Dispatch
from app.webhooks.application.fan_out import FanOut
from app.webhooks.application.service import WebhookService
from app.webhooks.domain.events import FIELDS
from core.events import Subscriber
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys
from core.security.secret_box import SecretBox


class WebhooksContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    wake_ups: providers.Dependency[Any] = providers.Dependency()
    egress: providers.Dependency[Any] = providers.Dependency()
    secret_keys: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()

    webhooks = providers.Singleton(MongoWebhooks)
    deliveries = providers.Singleton(MongoDeliveries, clock)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, WebhookKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    box = providers.Singleton(SecretBox, secret_keys)
    secrets = providers.Singleton(SealedSecrets, box)
    outbound = providers.Singleton(SignedPosts, egress, box, clock)
    queue = providers.Singleton(CeleryDeliveryQueue, wake_ups)

    service = providers.Factory(WebhookService, webhooks, deliveries, secrets, outbound, queue, clock)
    dispatch = providers.Factory(
        Dispatch, webhooks, deliveries, outbound, queue, clock, settings.provided.webhook_retry_schedule,
        providers.Object(partial(random.uniform, 0.8, 1.2)),
    )  # fmt: skip
    fan_out = providers.Singleton(FanOut, webhooks, deliveries, queue)
    subscriber = providers.Singleton(Subscriber.made_when_told, "webhooks", frozenset(FIELDS), fan_out.provider)
