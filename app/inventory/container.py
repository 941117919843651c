"""Wiring of the inventory module."""

from typing import Any

from dependency_injector import containers, providers

from app.inventory.adapter.background import beside_requests
from app.inventory.adapter.catalog_http import HttpProductCatalog
from app.inventory.adapter.catalog_local import LocalProductCatalog
from app.inventory.adapter.ledger import Ledger
from app.inventory.adapter.mongo import MongoProductSnapshots, StockDeliveryRecord, StockKeyRecord, StockOutboxRecord
from app.inventory.adapter.mongo_stock import MongoReservations, MongoStock
from app.inventory.application.changes import Changes
from app.inventory.application.products import KnownProducts
from app.inventory.application.reserving import ReservationService
from app.inventory.application.stocks import StockService
from app.inventory.domain.ports import ProductCatalog
from app.products.contracts import PRODUCT_EVENTS, ProductViews
from core.config import Settings
from core.events import Subscriber
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys
from core.relay import Relay
from core.setting_types import parts_of


def _catalog(settings: Settings, views: ProductViews) -> ProductCatalog:
    """The module in this process, where there is one."""
    if settings.has_any("products") or settings.products_url is None:
        return LocalProductCatalog(views)
    return HttpProductCatalog(settings.products_url, parts_of(settings.products_api_key))


class InventoryContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    role: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    views: providers.Dependency[Any] = providers.Dependency()  # of products
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()

    subscribers = providers.Object(())  # who listens: app/events.py
    relay = providers.Singleton(Relay, StockOutboxRecord, StockDeliveryRecord, subscribers)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, StockKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)

    ledger = providers.Singleton(Ledger, relay)
    stock = providers.Singleton(MongoStock, ledger, clock)
    reservations = providers.Singleton(MongoReservations, ledger, clock)
    snapshots = providers.Singleton(MongoProductSnapshots)
    catalog = providers.Singleton(_catalog, settings, views)
    products = providers.Singleton(KnownProducts, catalog, snapshots, stock, clock)
    subscriber = providers.Singleton(Subscriber.made_when_told, "inventory", PRODUCT_EVENTS, products.provider)
    background = providers.Factory(beside_requests, catalog, products, role)

    changes = providers.Singleton(Changes, reservations)

    stock_service = providers.Factory(StockService, products, stock, reservations, snapshots, changes)
    reservation_service = providers.Factory(ReservationService, products, stock, reservations, changes, clock)
