"""Wiring of the users module."""

from typing import Any

from dependency_injector import containers, providers

from app.users.adapter.bearer import BearerAuthentication
from app.users.adapter.mongo import MongoSessions, MongoUsers, UserKeyRecord
from app.users.adapter.session_cache import RedisSessionCache
from app.users.adapter.sign_in_limits import BucketSignInLimits
from app.users.application.accounts import Accounts
from app.users.application.own_sessions import OwnSessions
from app.users.application.sign_in import SignIn
from app.users.domain.ports import SessionLife
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys


class UsersContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    redis_commands: providers.Dependency[Any] = providers.Dependency()
    passwords: providers.Dependency[Any] = providers.Dependency()
    token_codec: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()
    limiter: providers.Dependency[Any] = providers.Dependency()

    users = providers.Singleton(MongoUsers)
    sessions = providers.Singleton(MongoSessions)
    session_cache = providers.Singleton(RedisSessionCache, redis_commands)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, UserKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    life = providers.Singleton(
        SessionLife,
        idle_s=settings.provided.refresh_token_ttl,
        absolute_s=settings.provided.session_max_ttl,
        grace_s=settings.provided.refresh_grace_seconds,
    )

    sign_in_limits = providers.Singleton(
        BucketSignInLimits,
        limiter,
        is_on=providers.Callable(bool, settings.provided.rate_limit_per_minute),
        factor=settings.provided.clients_per_network,
    )
    accounts = providers.Factory(
        Accounts,
        users,
        sessions,
        session_cache,
        passwords,
        clock,
        sign_in_limits,
        open_to_all=settings.provided.registration_is_open,
        password_min_length=settings.provided.password_min_length,
    )
    sign_in = providers.Factory(
        SignIn, users, sessions, session_cache, passwords, token_codec, clock, life, sign_in_limits
    )
    own_sessions = providers.Singleton(OwnSessions, sessions, session_cache)
    authenticate = providers.Singleton(BearerAuthentication, token_codec, own_sessions)
