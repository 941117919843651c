"""Wiring of the folders module."""

from typing import Any

from dependency_injector import containers, providers

from app.folders.adapter.mongo import FolderKeyRecord, MongoFolders
from app.folders.application.service import FolderService
from core.http.idempotency import Idempotency
from core.idempotency import MongoIdempotencyKeys


class FoldersContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    contents: providers.Dependency[Any] = providers.Dependency()
    fingerprint_secrets: providers.Dependency[Any] = providers.Dependency()

    folders = providers.Singleton(MongoFolders)
    idempotency_keys = providers.Singleton(MongoIdempotencyKeys, FolderKeyRecord)
    idempotency = providers.Singleton(Idempotency, idempotency_keys, fingerprint_secrets)
    service = providers.Factory(
        FolderService, folders, contents, clock, source_buckets=settings.provided.source_buckets
    )
