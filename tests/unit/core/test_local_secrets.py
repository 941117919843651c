"""Secrets of a data folder: made once, for its owner, the same for every process."""

import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from pydantic import SecretStr

from core.config import Settings, load_settings
from core.security.local_secrets import FILE, local_secrets, with_local_secrets
from core.setting_types import parts_of

NAMES = {"AWS_SECRET_ACCESS_KEY", "API_KEY", "PRIVATE_TOKENS", "SCAN_SIGNING_SECRET"}


def test_they_are_made_once(tmp_path: Path) -> None:
    made = local_secrets(tmp_path / "new" / "data")
    assert made.keys() == NAMES
    assert local_secrets(tmp_path / "new" / "data") == made
    assert local_secrets(tmp_path / "other") != made
    assert len(set(made.values())) == len(NAMES)


def test_their_file_is_for_its_owner(tmp_path: Path) -> None:
    local_secrets(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_folder_of_an_earlier_version_keeps_what_it_has(tmp_path: Path, end: str) -> None:
    (tmp_path / FILE).write_text(f"# mine\nAWS_SECRET_ACCESS_KEY=kept=as=it=is{end}")
    made = local_secrets(tmp_path)
    assert made["AWS_SECRET_ACCESS_KEY"] == "kept=as=it=is"
    assert made.keys() == NAMES
    assert local_secrets(tmp_path) == made
    assert (tmp_path / FILE).read_text().startswith("# mine\n")


@pytest.mark.parametrize("earlier", ["", "AWS_SECRET_ACCESS_KEY=kept\n"])
def test_those_who_start_together_agree(tmp_path: Path, earlier: str) -> None:
    """The lock is on the open file, so threads stand for processes."""
    with ThreadPoolExecutor(4) as pool:
        for attempt in range(30):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            if earlier:
                (folder / FILE).write_text(earlier)
            start = Barrier(4)

            def one(_: int, folder: Path = folder, start: Barrier = start) -> Mapping[str, str]:
                start.wait()
                return local_secrets(folder)

            assert list(pool.map(one, range(4))) == [local_secrets(folder)] * 4


def test_what_nobody_set_is_taken_from_the_folder_and_is_acceptable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_local_secrets(Settings(data_dir=tmp_path, api_key=SecretStr("set-by-hand")))
    made = local_secrets(tmp_path)
    assert parts_of(settings.api_key) == ("set-by-hand",)
    assert parts_of(settings.private_tokens) == (made["PRIVATE_TOKENS"],)
    monkeypatch.chdir(tmp_path)
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    assert load_settings("local").scan_signing_secret == settings.scan_signing_secret


def test_elsewhere_than_local_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings(app_env="stage", data_dir=tmp_path)
    assert with_local_secrets(settings) is settings
    assert list(tmp_path.iterdir()) == []
