"""The processors this installation has: the built-in ones and those that packages register.

Imported by the API to list them, so it loads no parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.documents.domain import limits
from app.documents.domain.processors import DOCX, PDF, NoOptions, RegisteredProcessor
from core.config import ConfigError

GROUP = "dossier.processors"
DEFAULT = "extract"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BrokenProcessorPackage(ConfigError):
    """A package that registers a processor nobody can run; its one line names the package."""


class SimulateOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    duration_seconds: float = Field(default=2, ge=0, le=limits.SIMULATE_MAX_S, allow_inf_nan=False)
    fail: bool = False


EXTRACT = RegisteredProcessor(
    name=DEFAULT,
    version="1.0.0",
    description="Text, metadata, page sizes, language and a thumbnail",
    entries={PDF: "read_pdf.py:process", DOCX: "read_docx.py:process"},
    thumbnails={PDF: "read_pdf.py:thumbnail"},
    limits=limits.EXTRACT,
)
SIMULATE = RegisteredProcessor(
    name="simulate",
    version="1.0.0",
    description="Waits, reports progress and returns a mock",
    entries=dict.fromkeys((PDF, DOCX), "simulate.py:process"),
    limits=limits.SIMULATE,
    options=SimulateOptions,
)
BUILT_IN = (EXTRACT, SIMULATE)


class InstalledProcessors:
    """The registry over a fixed set of processors; see `load_processors`."""

    def __init__(self, processors: Iterable[RegisteredProcessor] = BUILT_IN) -> None:
        self._by_name: Mapping[str, RegisteredProcessor] = {found.name: found for found in processors}

    def list(self) -> tuple[RegisteredProcessor, ...]:
        return tuple(self._by_name.values())

    def find(self, name: str) -> RegisteredProcessor | None:
        return self._by_name.get(name)


def load_processors() -> InstalledProcessors:
    """The built-in processors and those of installed packages, in the order of their names.

    Raises BrokenProcessorPackage for a package that cannot be imported, lacks an attribute or takes a name.
    """
    by_name = {processor.name: processor for processor in BUILT_IN}
    packages: dict[str, str] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda found: (found.name, found.value)):
        package = _package(entry)
        try:
            processor = _registered(entry)
            if processor.name in by_name:
                raise ValueError(f"the name {processor.name!r} is taken")
        except (Exception, SystemExit) as error:
            raise BrokenProcessorPackage(_one_line(package, entry, error)) from error
        by_name[processor.name] = processor
        packages[processor.name] = package
    for name, package in packages.items():
        if problem := _problem_of_needs(by_name[name], by_name):
            raise BrokenProcessorPackage(f"processor package {package}: {problem}")
    return InstalledProcessors(by_name.values())


def _package(entry: EntryPoint) -> str:
    dist: Distribution | None = entry.dist
    return f"{dist.name} {dist.version}" if dist is not None else entry.value


def _one_line(package: str, entry: EntryPoint, error: BaseException) -> str:
    said = " ".join(str(error).split())[:300]
    return f"processor package {package} ({entry.value}): {type(error).__name__}: {said}"


def _registered(entry: EntryPoint) -> RegisteredProcessor:
    found = entry.load()
    name, version, description = (_text(found, name) for name in ("name", "version", "description"))
    if not _NAME.fullmatch(name) or name != entry.name:
        raise ValueError(f"name {name!r} must fit {_NAME.pattern} and be the entry point's")
    content_types = _texts(found, "content_types")
    if not content_types:
        raise ValueError("content_types is empty")
    env = _texts(found, "env")
    if not all(_VARIABLE.fullmatch(variable) for variable in env):
        raise ValueError("env must hold names of environment variables")
    if not callable(getattr(found, "process", None)):
        raise ValueError("process is no method")
    asked = _attribute(found, "limits")
    if not isinstance(asked, Mapping):
        raise ValueError("limits must be a mapping")
    return RegisteredProcessor(
        name=name,
        version=version,
        description=description,
        entries=dict.fromkeys(sorted(content_types), entry.value),
        limits=limits.allowed(asked),
        options=_options(found),
        needs=_texts(found, "needs"),
        env=env,
        site=str(entry.dist.locate_file("")) if entry.dist is not None else "",
    )


def _attribute(found: object, name: str) -> Any:
    if not hasattr(found, name):
        raise ValueError(f"{name} is missing")
    return getattr(found, name)


def _text(found: object, name: str) -> str:
    value = _attribute(found, name)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{name} must be one line of text")
    return value


def _texts(found: object, name: str) -> tuple[str, ...]:
    value = _attribute(found, name)
    if not isinstance(value, frozenset | set | tuple | list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must be a set or tuple of texts")
    return tuple(value)


def _options(found: object) -> type[BaseModel]:
    options = _attribute(found, "options")
    if options is None:
        return NoOptions
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        raise ValueError("options must be a pydantic model or None")
    if options.model_config.get("extra") != "forbid":
        raise ValueError('options must have extra="forbid"')
    return options


def _problem_of_needs(processor: RegisteredProcessor, known: Mapping[str, RegisteredProcessor]) -> str | None:
    needed = [known.get(name) for name in processor.needs]
    wall = processor.limits.wall_s
    for name, found in zip(processor.needs, needed, strict=True):
        if found is None or found.needs:
            return f"needs {name!r}, which is unknown or has needs of its own"
        if missing := processor.content_types - found.content_types:
            return f"needs {name!r}, which does not take {', '.join(sorted(missing))}"
        wall += found.limits.wall_s
    if wall > limits.ATTEMPT_WALL_S:
        return f"limits.wall_s and those of its needs exceed {limits.ATTEMPT_WALL_S} s"
    return None
