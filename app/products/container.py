"""Wiring of the products module."""

from typing import Any

from dependency_injector import containers, providers

from app.products.adapter.mongo import MongoProducts, ProductDeliveryRecord, ProductKeyRecord, ProductRecord
from app.products.application.imports import ProductImport
from app.products.application.service import ProductService
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys
from core.relay import Relay


class ProductsContainer(containers.DeclarativeContainer):
    clock: providers.Dependency[Any] = providers.Dependency()
    cache: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()

    products = providers.Singleton(MongoProducts)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, ProductKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)

    subscribers = providers.Object(())  # who listens: app/events.py
    relay = providers.Singleton(Relay, ProductRecord, ProductDeliveryRecord, subscribers)

    service = providers.Factory(ProductService, products, cache, relay, clock)
    imports = providers.Factory(ProductImport, products, cache, clock)
