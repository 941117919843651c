"""Wiring of the folders module."""

from typing import Any

from dependency_injector import containers, providers

from app.folders.adapter.mongo import MongoFolders
from app.folders.application.service import FolderService


class FoldersContainer(containers.DeclarativeContainer):
    settings: providers.Dependency[Any] = providers.Dependency()
    clock: providers.Dependency[Any] = providers.Dependency()
    contents: providers.Dependency[Any] = providers.Dependency()

    folders = providers.Singleton(MongoFolders)
    service = providers.Factory(
        FolderService, folders, contents, clock, source_buckets=settings.provided.source_buckets
    )
