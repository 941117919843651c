"""The registry of modules: what each needs, and what the process mounts, stores and runs for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from core.config import ConfigError, Settings

if TYPE_CHECKING:  # this file is read before anybody knows which of them are needed
    from beanie import Document
    from celery import Celery
    from fastapi import APIRouter

    from core.worker_process import WorkerProcess


@dataclass(frozen=True)
class Module:
    """Functions import on call, so that an API does not load task code and a worker no endpoints."""

    requires: tuple[str, ...]
    routers: Callable[[], "Sequence[APIRouter]"]
    records: Callable[[], "Sequence[type[Document]]"]
    register_tasks: "Callable[[Celery, WorkerProcess], None] | None" = None
    schedule: Callable[[Settings], Mapping[str, timedelta]] | None = None


def _users_routers() -> "Sequence[APIRouter]":
    from app.users.adapter import api, sessions_api

    return api.public, api.people, sessions_api.leaving, sessions_api.people


def _users_records() -> "Sequence[type[Document]]":
    from app.users.adapter.mongo import RECORDS

    return RECORDS


def _folders_routers() -> "Sequence[APIRouter]":
    from app.folders.adapter import api

    return (api.router,)


def _folders_records() -> "Sequence[type[Document]]":
    from app.folders.adapter.mongo import RECORDS

    return RECORDS


def _documents_routers() -> "Sequence[APIRouter]":
    from app.documents.adapter import api, processing_api

    return api.uploads, api.router, processing_api.router


def _documents_records() -> "Sequence[type[Document]]":
    from app.documents.adapter.mongo import RECORDS

    return RECORDS


def _documents_tasks(celery: "Celery", process: "WorkerProcess") -> None:
    from app.documents.adapter import tasks

    tasks.register(celery, process)


def _documents_schedule(settings: Settings) -> Mapping[str, timedelta]:
    from app.documents.adapter import tasks

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
        "folders": Module(("users", "documents"), _folders_routers, _folders_records),
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
    return {name: module for name, module in MODULES.items() if name in names}
