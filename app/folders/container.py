"""Wiring of the folders module."""

from collections.abc import Callable
from typing import Any

from dependency_injector import containers, providers

from app.folders.adapter.callbacks import ScanCallbacks
from app.folders.adapter.mongo import FolderKeyRecord, MongoFolders
from app.folders.adapter.mongo_syncs import FolderDeliveryRecord, MongoSyncs, SyncRecord
from app.folders.adapter.queue import CelerySyncQueue
from app.folders.adapter.scan_orders import HttpScanOrders, LocalScanOrders
from app.folders.application.service import FolderService
from app.folders.application.syncs import SyncService
from app.folders.domain.ports import ScanOrders
from app.scans.contracts import ScanService
from core.clock import Clock
from core.config import Settings
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys
from core.relay import Relay
from core.security.signing import signing_keys
from core.setting_types import parts_of


def _orders(
    here: Callable[[], ScanService] | None, settings: Settings, keys: tuple[bytes, ...], clock: Clock
) -> ScanOrders | None:
    if here is not None:
        return LocalScanOrders(here)
    if settings.scans_url is None:
        return None
    return HttpScanOrders(settings.scans_url, parts_of(settings.scans_private_token), keys, clock)


class FoldersContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    wake_ups: providers.Dependency[Any] = providers.Dependency()
    contents: providers.Dependency[Any] = providers.Dependency()
    scanned: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()
    sources: providers.Dependency[Any] = providers.Dependency()

    folders = providers.Singleton(MongoFolders)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, FolderKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    service = providers.Singleton(FolderService, folders, contents, clock, sources)

    subscribers = providers.Object(())  # modules that listen: their container's business
    relay = providers.Singleton(Relay, SyncRecord, FolderDeliveryRecord, subscribers)
    scans_here: providers.Provider[Any] = providers.Object(None)  # how to get the scan service of this process
    signing_keys = providers.Singleton(signing_keys, settings.provided.scan_signing_secret)
    scan_orders = providers.Singleton(_orders, scans_here, settings, signing_keys, clock)
    syncs = providers.Singleton(
        SyncService, providers.Singleton(MongoSyncs), folders, scanned, scan_orders,
        providers.Singleton(CelerySyncQueue, wake_ups), relay, clock,
    )  # fmt: skip
    callbacks = providers.Singleton(ScanCallbacks, syncs, signing_keys, clock)
