"""The root container: shared clients once, one sub-container per selected module."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog
from celery import Celery
from dependency_injector import containers, providers
from redis.asyncio import Redis

from app.documents.container import DocumentsContainer
from app.events import connect
from app.folders.container import FoldersContainer
from app.inventory.container import InventoryContainer
from app.modules import selected
from app.products.container import ProductsContainer
from app.scans.container import ScansContainer
from app.users.container import UsersContainer
from app.webhooks.container import WebhooksContainer
from core import metrics
from core.broker import Broker
from core.cache import Cache
from core.celery import WakeUps, broker_of, is_redis, make_celery
from core.clock import utc_now
from core.config import ConfigError, Settings
from core.http.pagination import Cursors
from core.measurements import Measurements
from core.mongo import make_client
from core.redis import Commands, make_redis
from core.security.egress import EgressClient, system_resolver
from core.security.keys import DerivedKeys, derived_keys, ensure_local_signing_key
from core.security.local_secrets import with_local_secrets
from core.security.passwords import Passwords
from core.security.ratelimit import Limiter, MemoryBuckets, RedisBuckets
from core.security.service_keys import ServiceKeys
from core.security.tokens import SigningKey, TokenCodec, load_signing_keys
from core.setting_types import parts_of
from core.sources import Sources
from core.sqs import SqsWakeUps
from core.stopping import Stopping
from core.storage.base import UploadStore
from core.storage.local import LocalFileStore
from core.storage.s3 import S3Options
from core.storage.s3_uploads import S3UploadStore

Role = Literal["api", "worker"]
log = structlog.get_logger("container")


def _signing_keys(settings: Settings) -> tuple[SigningKey, ...]:
    if settings.is_prod and not settings.jwt_private_keys:
        raise ConfigError("JWT_PRIVATE_KEYS: must be set in prod, where no key is generated")
    paths: tuple[str | Path, ...] = settings.jwt_private_keys
    return load_signing_keys(paths or (ensure_local_signing_key(settings.data_dir),))


def _file_store(settings: Settings, keys: DerivedKeys, role: Role) -> UploadStore:
    if settings.storage_backend == "local":
        return LocalFileStore(settings.storage_path, keys.derive("local-url"))
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    return S3UploadStore(
        S3Options(
            bucket=settings.s3_bucket,
            endpoint_url=settings.s3_endpoint_url,
            public_endpoint_url=settings.s3_public_endpoint_url,
            access_key_id=settings.aws_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
            session_token=token.get_secret_value() if token else None,
            region=settings.aws_region,
            read_timeout_s=3 if role == "api" else 20,
            attempts=2 if role == "api" else 3,
        )
    )


def _broker(settings: Settings, celery: Callable[[], Celery], redis: Callable[[], Redis]) -> Broker:
    if settings.broker_url is None:
        return Broker(celery, redis())
    url = broker_of(settings)
    return Broker(celery, make_redis(url) if is_redis(url) else None)


def _wake_ups(settings: Settings, celery: Callable[[], Celery]) -> WakeUps | SqsWakeUps:
    dropped = metrics.wakeups_dropped.inc
    if settings.wake_ups_queue_url is None:
        return WakeUps(celery(), settings.queue_prefix, dropped=dropped)
    return SqsWakeUps(settings.wake_ups_queue_url, settings.aws_region, dropped=dropped)


class Container(containers.DeclarativeContainer):
    settings = providers.Dependency(instance_of=Settings)
    role = providers.Dependency(instance_of=str)
    clock = providers.Object(utc_now)
    stopping = providers.Singleton(Stopping)
    neighbours = providers.Dict()  # checks of readiness for services that may be away

    mongo = providers.Singleton(
        lambda settings, role: make_client(settings.mongo_url.get_secret_value(), in_worker=role == "worker"),
        settings,
        role,
    )
    measurements = providers.Singleton(
        lambda settings, mongo: Measurements(mongo[f"{settings.mongo_db}_{next(iter(selected(settings)))}"]["metrics"]),
        settings,
        mongo,
    )
    redis = providers.Singleton(lambda settings: make_redis(settings.redis_url.get_secret_value()), settings)
    redis_commands = providers.Singleton(Commands, redis)
    cache = providers.Singleton(
        Cache, redis_commands, prefix=settings.provided.mongo_db, ttl_s=settings.provided.cache_ttl_seconds
    )
    celery = providers.Singleton(
        lambda settings, role: make_celery(broker_of(settings), in_worker=role == "worker"), settings, role
    )
    broker = providers.Singleton(_broker, settings, celery.provider, redis.provider)
    wake_ups = providers.Singleton(_wake_ups, settings, celery.provider)
    signing_keys = providers.Singleton(_signing_keys, settings)
    keys = providers.Singleton(derived_keys, settings, signing_keys.provider)
    fingerprint_secrets = keys.provided.derive.call("idempotency")
    cursors = providers.Singleton(Cursors, keys.provided.derive.call("cursor"))
    limiter = providers.Singleton(
        Limiter, providers.Singleton(RedisBuckets, redis_commands), providers.Singleton(MemoryBuckets),
        keys.provided.derive.call("limiter")[0], processes=settings.provided.web_concurrency,
        fell_back=providers.Object(metrics.rate_limit_fallbacks.inc),
    )  # fmt: skip
    api_keys = providers.Singleton(
        lambda settings: ServiceKeys("X-API-Key", parts_of(settings.api_key), "api_key"), settings
    )
    private_tokens = providers.Singleton(
        lambda settings: ServiceKeys("Private-Token", parts_of(settings.private_tokens), "private_token", alone=True),
        settings,
    )
    egress = providers.Singleton(
        lambda settings: EgressClient(system_resolver, origins=settings.egress_allowed_origins), settings
    )
    files = providers.Singleton(_file_store, settings, keys, role)
    sources = providers.Singleton(Sources, settings.provided.source_buckets, settings.provided.scan_source_template)
    passwords = providers.Singleton(
        Passwords, settings.provided.password_hash_concurrency, settings.provided.password_min_length
    )
    token_codec = providers.Singleton(
        TokenCodec, signing_keys, issuer=settings.provided.jwt_issuer, access_ttl=settings.provided.access_token_ttl,
        refresh_ttl=settings.provided.refresh_token_ttl,
    )  # fmt: skip

    users = providers.Container(
        UsersContainer, settings=settings, clock=clock, redis_commands=redis_commands, passwords=passwords,
        token_codec=token_codec, fingerprint_secrets=fingerprint_secrets, limiter=limiter,
    )  # fmt: skip
    documents = providers.Container(
        DocumentsContainer, settings=settings, clock=clock, files=files, wake_ups=wake_ups, broker=broker,
        stopping=stopping, fingerprint_secrets=fingerprint_secrets,
    )  # fmt: skip
    folders = providers.Container(
        FoldersContainer, settings=settings, clock=clock, wake_ups=wake_ups, contents=documents.documents,
        scanned=documents.scanned, fingerprint_secrets=fingerprint_secrets, sources=sources,
    )  # fmt: skip
    products = providers.Container(ProductsContainer, clock=clock, cache=cache, fingerprint_secrets=fingerprint_secrets)
    inventory = providers.Container(
        InventoryContainer, settings=settings, role=role, clock=clock, views=products.service,
        fingerprint_secrets=fingerprint_secrets,
    )  # fmt: skip
    scans = providers.Container(
        ScansContainer, settings=settings, clock=clock, files=files, wake_ups=wake_ups, sources=sources,
        fingerprint_secrets=fingerprint_secrets,
    )  # fmt: skip
    webhooks = providers.Container(
        WebhooksContainer, settings=settings, clock=clock, wake_ups=wake_ups, egress=egress,
        secret_keys=keys.provided.derive.call("webhook-secret"), fingerprint_secrets=fingerprint_secrets,
    )  # fmt: skip


def build_container(settings: Settings, role: Role) -> Container:
    """A container for one process; nothing connects before `running`. Raises ConfigError."""
    for name in ("mongo_url", "redis_url"):
        if getattr(settings, name) is None:
            raise ConfigError(f"{name.upper()}: must be set, or start with `python main.py --env local`")
    selected(settings)
    settings = with_local_secrets(settings)
    for name in ("private_tokens", "scan_signing_secret") if settings.has_any("scans") else ():
        if getattr(settings, name) is None:
            raise ConfigError(f"{name.upper()}: must be set where scans run, it is generated in local only")
    container = Container(settings=settings, role=role)
    container.documents.folders.override(container.folders.service)
    if settings.has_any("scans"):
        container.folders.scans_here.override(container.scans.service.provider)
    if settings.has_any("folders"):
        container.scans.receiver.override(container.folders.callbacks)
    if settings.products_url is not None and settings.has_any("inventory"):
        if settings.has_any("products"):
            log.warning("setting_without_use", setting="PRODUCTS_URL")
        else:
            container.neighbours.add_kwargs(products=container.inventory.catalog.provided.ping)
    connect(container)
    return container
