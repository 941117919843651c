"""docker/compose.services.yaml: products and inventory apart, as confined and as complete as the whole."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

import main
from app.modules import selected
from core.config import Settings, load_settings

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.services.yaml").read_text("utf-8"))
WHOLE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
OURS = {name: service for name, service in COMPOSE["services"].items() if "image" in service}

each = pytest.mark.parametrize("name", OURS)


def test_each_service_has_its_processes_and_its_port() -> None:
    roles = ["", "-worker", "-beat", "-migrate"]
    assert sorted(OURS) == sorted(f"{name}{role}" for name in ("products", "inventory") for role in roles)
    ports = {name: service["ports"] for name, service in OURS.items() if "ports" in service}
    assert ports == {"products": ["127.0.0.1:8000:8000"], "inventory": ["127.0.0.1:8001:8000"]}


@each
def test_a_service_is_confined(name: str) -> None:
    service = OURS[name]
    hardened = WHOLE["x-hardened"]
    assert {key: service[key] for key in hardened if key != "restart"} == {
        key: value for key, value in hardened.items() if key != "restart"
    }
    assert service["restart"] == ("no" if name.endswith("-migrate") else "always")
    assert re.fullmatch(r"\d+m", service["mem_limit"])


@each
def test_its_settings_are_complete_and_name_its_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in Settings.model_fields:
        monkeypatch.delenv(setting.upper(), raising=False)
    values = {
        "MONGO_URL": "mongodb://u:p@mongo/",
        "REDIS_URL": "redis://:p@redis/",
        "SECRET_KEYS": "QUJD" * 10 + "QUI=",
    }
    for setting, value in OURS[name]["environment"].items():
        secret = setting.removesuffix("_FILE")
        field = Settings.model_fields[secret.lower()]
        assert (secret != setting) == (SecretStr in (field.annotation, *get_args(field.annotation))), setting
        if secret != setting:
            assert value.removeprefix("/run/secrets/") in OURS[name]["secrets"]
            value = values.get(secret, "f3b1c9d0e8a74526b1c9d0e8a7452611")
        monkeypatch.setenv(secret, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value))
    settings = load_settings("prod")
    assert list(selected(settings)) == [name.split("-")[0]]
    assert settings.queue_prefix == f"{name.split('-')[0]}."


@each
def test_a_command_is_one_of_the_command_line(name: str) -> None:
    assert CliRunner().invoke(main.cli, ["--env", "prod", *OURS[name]["command"], "--help"]).exit_code == 0


def test_what_is_named_is_there() -> None:
    for name, service in COMPOSE["services"].items():
        if "extends" in service:
            source = service["extends"]
            service = yaml.safe_load((DOCKER / source["file"]).read_text("utf-8"))["services"][source["service"]]
        assert set(service["networks"]) <= COMPOSE["networks"].keys(), name
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys(), name
        assert service.get("depends_on", {}).keys() <= COMPOSE["services"].keys(), name
    for name, secret in COMPOSE["secrets"].items():
        assert WHOLE["secrets"][name] == secret
