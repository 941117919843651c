"""The registry of modules: what each needs, and what the process mounts, stores and runs for it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from core.config import ConfigError, Settings

if TYPE_CHECKING:  # this file is read before anybody knows which of them are needed
    from beanie import Document
    from celery import Celery
    from fastapi import APIRouter

    from app.container import Container
    from core.worker_process import WorkerProcess


@dataclass(frozen=True)
class Module:
    """Functions import on call, so that an API does not load task code and a worker no endpoints."""

    requires: tuple[str, ...]
    routers: Callable[[], "Sequence[APIRouter]"]
    records: Callable[[], "Sequence[type[Document]]"]
    register_tasks: "Callable[[Celery, WorkerProcess], None] | None" = None
    schedule: Callable[[Settings], Mapping[str, timedelta]] | None = None
    check: Callable[[Settings], None] | None = None  # needs beside modules; raises ConfigError
    background: "Callable[[Container], AbstractAsyncContextManager[None]] | None" = None  # as long as the process runs


def _users_routers() -> "Sequence[APIRouter]":
    from app.users.adapter import api, sessions_api

    return api.public, api.people, sessions_api.leaving, sessions_api.people


def _users_records() -> "Sequence[type[Document]]":
    from app.users.adapter.mongo import RECORDS

    return RECORDS


def _folders_routers() -> "Sequence[APIRouter]":
    from app.folders.adapter import api, sync_api

    return sync_api.router, sync_api.callbacks, api.router


def _folders_records() -> "Sequence[type[Document]]":
    from app.folders.adapter.mongo import RECORDS

    return RECORDS


def _folders_check(settings: Settings) -> None:
    if settings.scans_url is not None and not settings.has_any("scans") and settings.scans_private_token is None:
        raise ConfigError("SCANS_PRIVATE_TOKEN: must be set with SCANS_URL")


def _folders_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.folders.adapter import tasks

    tasks.register(celery, process)


def _folders_schedule(settings: Settings) -> Mapping[str, timedelta]:
    from app.folders.adapter import tasks

    return tasks.schedule(settings)


def _documents_routers() -> "Sequence[APIRouter]":
    from app.documents.adapter import api, processing_api, uploads_api

    return api.uploads, uploads_api.router, uploads_api.completing, api.router, processing_api.router


def _documents_records() -> "Sequence[type[Document]]":
    from app.documents.adapter.mongo import RECORDS

    return RECORDS


def _documents_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.documents.adapter import tasks

    tasks.register(celery, process)


def _documents_schedule(settings: Settings) -> Mapping[str, timedelta]:
    from app.documents.adapter import tasks

    return tasks.schedule(settings)


def _products_routers() -> "Sequence[APIRouter]":
    from app.products.adapter import api

    return api.imports, api.router


def _products_records() -> "Sequence[type[Document]]":
    from app.products.adapter.mongo import RECORDS

    return RECORDS


def _products_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.products.adapter import tasks

    tasks.register(celery, process)


def _products_schedule(_: Settings) -> Mapping[str, timedelta]:
    from app.products.adapter import tasks

    return tasks.SCHEDULE


def _inventory_check(settings: Settings) -> None:
    for name in ("products_url", "products_api_key") if not settings.has_any("products") else ():
        if getattr(settings, name) is None:
            raise ConfigError(f"{name.upper()}: must be set where inventory runs without products")


def _inventory_routers() -> "Sequence[APIRouter]":
    from app.inventory.adapter import api, reservations_api

    return reservations_api.router, api.router


def _inventory_records() -> "Sequence[type[Document]]":
    from app.inventory.adapter.mongo import RECORDS

    return RECORDS


def _inventory_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.inventory.adapter import tasks

    tasks.register(celery, process)


def _inventory_schedule(settings: Settings) -> Mapping[str, timedelta]:
    from app.inventory.adapter import tasks

    return tasks.schedule(settings)


def _inventory_background(container: "Container") -> "AbstractAsyncContextManager[None]":
    background: AbstractAsyncContextManager[None] = container.inventory.background()
    return background


def _scans_routers() -> "Sequence[APIRouter]":
    from app.scans.adapter import api

    return (api.router,)


def _scans_records() -> "Sequence[type[Document]]":
    from app.scans.adapter.mongo import RECORDS

    return RECORDS


def _scans_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.scans.adapter import tasks

    tasks.register(celery, process)


def _scans_schedule(settings: Settings) -> Mapping[str, timedelta]:
    from app.scans.adapter import tasks

    return tasks.schedule(settings)


def _webhooks_routers() -> "Sequence[APIRouter]":
    from app.webhooks.adapter import api

    return (api.router,)


def _webhooks_records() -> "Sequence[type[Document]]":
    from app.webhooks.adapter.mongo import RECORDS

    return RECORDS


def _webhooks_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.webhooks.adapter import tasks

    tasks.register(celery, process)


def _webhooks_schedule(settings: Settings) -> Mapping[str, timedelta]:
    from app.webhooks.adapter import tasks

    return tasks.schedule(settings)


MODULES: Mapping[str, Module] = MappingProxyType(
    {
        "documents": Module(
            ("users", "folders"),
            _documents_routers,
            _documents_records,
            _documents_tasks,
            _documents_schedule,
        ),
        "products": Module((), _products_routers, _products_records, _products_tasks, _products_schedule),
        "inventory": Module(
            (),
            _inventory_routers,
            _inventory_records,
            _inventory_tasks,
            _inventory_schedule,
            _inventory_check,
            _inventory_background,
        ),
        "folders": Module(
            ("users", "documents"),
            _folders_routers,
            _folders_records,
            _folders_tasks,
            _folders_schedule,
            check=_folders_check,
        ),
        "webhooks": Module(("users",), _webhooks_routers, _webhooks_records, _webhooks_tasks, _webhooks_schedule),
        "scans": Module((), _scans_routers, _scans_records, _scans_tasks, _scans_schedule),
        "users": Module((), _users_routers, _users_records),
    }
)


def selected(settings: Settings) -> dict[str, Module]:
    """The modules that APP_MODULES names, most used first. Raises ConfigError."""
    names = settings.app_modules
    if names == ("all",):
        return dict(MODULES)
    unknown = [name for name in names if name not in MODULES]
    if unknown or len(set(names)) != len(names) or not names:
        raise ConfigError(f"APP_MODULES: must be `all` or a comma list of {', '.join(sorted(MODULES))}")
    missing = {need for name in names for need in MODULES[name].requires} - set(names)
    if missing:
        raise ConfigError(f"APP_MODULES: needs {', '.join(sorted(missing))} as well")
    found = {name: module for name, module in MODULES.items() if name in names}
    for module in found.values():
        if module.check is not None:
            module.check(settings)
    return found
