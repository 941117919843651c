"""Wiring of the users module."""

from typing import Any

from dependency_injector import containers, providers

from app.users.adapter.bearer import BearerAuthentication
from app.users.adapter.mongo import MongoSessions, MongoUsers, UserKeyRecord
from app.users.application.accounts import Accounts
from app.users.application.sign_in import SignIn
from app.users.domain.ports import SessionLife
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys


class UsersContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    passwords: providers.Dependency[Any] = providers.Dependency()
    token_codec: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()

    users = providers.Singleton(MongoUsers)
    sessions = providers.Singleton(MongoSessions)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, UserKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    life = providers.Singleton(
        SessionLife,
        idle_s=settings.provided.refresh_token_ttl,
        absolute_s=settings.provided.session_max_ttl,
        grace_s=settings.provided.refresh_grace_seconds,
    )

    accounts = providers.Factory(Accounts, users, passwords, clock, open_to_all=settings.provided.registration_is_open)
    sign_in = providers.Factory(SignIn, users, sessions, passwords, token_codec, clock, life)
    authenticate = providers.Singleton(BearerAuthentication, token_codec, sign_in)
