"""The reference of the settings and the example file say what core/config.py says."""

from pathlib import Path

import pytest

from core.config import Settings
from tools import generate_configuration

ROOT = Path(__file__).parents[2]
REMEDY = "stale: run `python -m tools.generate_configuration`"


def test_the_reference_of_the_settings_is_current() -> None:
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == generate_configuration.configuration(), REMEDY


def test_the_example_file_is_current() -> None:
    assert (ROOT / ".env.example").read_text("utf-8") == generate_configuration.example(), REMEDY


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_means(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert "|" not in description
    assert "\n" not in description


def test_groups_and_defaults_name_settings() -> None:
    assert generate_configuration.GROUPS.keys() | generate_configuration.DEFAULTS.keys() <= Settings.model_fields.keys()
    assert next(iter(Settings.model_fields)) in generate_configuration.GROUPS


def test_the_example_file_sets_nothing_and_its_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    assert all(not line or line.startswith("#") for line in lines)
    values = [line[1:].split("=", 1) for line in lines if line.startswith("#") and line[1:2].isupper() and "=" in line]
    names = [name.lower() for name, _ in values]
    assert names == [name for name in Settings.model_fields if name != "app_env"]
    given = {name.lower(): value for name, value in values if value}
    assert Settings(_env_file=None, **given) == Settings(_env_file=None)  # type: ignore[arg-type]
