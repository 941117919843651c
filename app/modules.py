"""The registry of modules: what each needs, and what the process mounts, stores and runs for it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from core.config import ConfigError, Settings

if TYPE_CHECKING:  # this file is read before anybody knows which of them are needed
    from beanie import Document
    from fastapi import APIRouter

    from app.container import Container
    from core.worker_process import Work


@dataclass(frozen=True)
class Module:
    """Its files are imported on call, so that an API does not load task code and a worker no endpoints."""

    name: str
    endpoints: tuple[str, ...]  # routers of the adapter in the order in which paths are matched, `file.variable`
    requires: tuple[str, ...] = ()
    has_tasks: bool = True
    check: Callable[[Settings], None] | None = None  # needs beside modules; raises ConfigError
    background: "Callable[[Container], AbstractAsyncContextManager[None]] | None" = None  # as long as the process runs

    def routers(self) -> "Sequence[APIRouter]":
        return [getattr(self._file(file), variable) for file, variable in (each.split(".") for each in self.endpoints)]

    def records(self) -> "Sequence[type[Document]]":
        records: Sequence[type[Document]] = self._file("mongo").RECORDS
        return records

    def tasks(self) -> "Mapping[str, Work]":
        """By the names that messages carry."""
        return self._file("tasks").TASKS if self.has_tasks else {}

    def schedule(self, settings: Settings) -> Mapping[str, timedelta]:
        """Periodic tasks and their intervals."""
        return self._file("tasks").schedule(settings) if self.has_tasks else {}

    def _file(self, name: str) -> Any:
        return import_module(f"app.{self.name}.adapter.{name}")


def _folders_check(settings: Settings) -> None:
    if settings.scans_url is not None and not settings.has_any("scans") and settings.scans_private_token is None:
        raise ConfigError("SCANS_PRIVATE_TOKEN: must be set with SCANS_URL")


def _inventory_check(settings: Settings) -> None:
    for name in ("products_url", "products_api_key") if not settings.has_any("products") else ():
        if getattr(settings, name) is None:
            raise ConfigError(f"{name.upper()}: must be set where inventory runs without products")


def _inventory_background(container: "Container") -> "AbstractAsyncContextManager[None]":
    background: AbstractAsyncContextManager[None] = container.inventory.background()
    return background


_ALL = (  # most used first
    Module(
        "documents",
        ("api.uploads", "uploads_api.router", "uploads_api.completing", "api.router", "processing_api.router"),
        requires=("users", "folders"),
    ),
    Module("products", ("api.imports", "api.router")),
    Module(
        "inventory", ("reservations_api.router", "api.router"), check=_inventory_check, background=_inventory_background
    ),
    Module(
        "folders",
        ("sync_api.router", "sync_api.callbacks", "api.router"),
        requires=("users", "documents"),
        check=_folders_check,
    ),
    Module("webhooks", ("api.router",), requires=("users",)),
    Module("scans", ("api.router",)),
    Module("users", ("api.public", "api.people", "sessions_api.leaving", "sessions_api.people"), has_tasks=False),
)
MODULES: Mapping[str, Module] = {module.name: module for module in _ALL}


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
