"""Wiring of the scans module."""

import random
from functools import partial
from typing import Any

from dependency_injector import containers, providers

from app.scans.adapter.callbacks import RegisteredCallbacks, origins
from app.scans.adapter.mongo import MongoScans, ScanKeyRecord
from app.scans.adapter.mongo_outgoing import MongoOutgoing
from app.scans.adapter.queue import CeleryScanQueue
from app.scans.application.lister import Lister
from app.scans.application.ordering import Ordering
from app.scans.application.sender import Sender
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys
from core.security.egress import EgressClient, system_resolver
from core.security.signing import signing_keys
from core.setting_types import parts_of
from core.tracing import current_request_id


class ScansContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    files: providers.Dependency[Any] = providers.Dependency()
    wake_ups: providers.Dependency[Any] = providers.Dependency()
    sources: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()
    receiver: providers.Provider[Any] = providers.Object(None)  # the host's, where it is in this process

    scans = providers.Singleton(
        MongoScans, settings.provided.processing_lease_seconds, settings.provided.reconcile_interval_seconds
    )
    outgoing = providers.Singleton(MongoOutgoing)
    queue = providers.Singleton(CeleryScanQueue, wake_ups)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, ScanKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    signing_keys = providers.Callable(signing_keys, settings.provided.scan_signing_secret)
    egress = providers.Singleton(
        lambda settings: EgressClient(
            system_resolver, origins=[*origins(settings.scan_callbacks), *settings.egress_allowed_origins]
        ),
        settings,
    )
    callbacks = providers.Singleton(
        RegisteredCallbacks, settings.provided.scan_callbacks, egress, receiver, signing_keys,
        providers.Callable(parts_of, settings.provided.private_tokens), clock,
    )  # fmt: skip

    service = providers.Factory(Ordering, scans, callbacks, sources, queue, clock, providers.Object(current_request_id))
    lister = providers.Factory(Lister, scans, files, queue, clock, settings.provided.processing_lease_seconds)
    sender = providers.Factory(
        Sender, scans, outgoing, callbacks, queue, clock, settings.provided.webhook_retry_schedule,
        providers.Object(partial(random.uniform, 0.8, 1.2)),
    )  # fmt: skip
