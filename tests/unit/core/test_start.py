"""What is said of a server never holds a secret, and sample data does not come into prod by accident."""

import pytest
from typer.testing import CliRunner

import main
from core import exits
from core.setting_types import server_of
from tests.unit.core.test_config import PROD


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://ada:hidden@one:27017,two/?replicaSet=rs0", "mongodb://one:27017,two"),
        ("mongodb://ada:hid/den@one/db", "mongodb://one"),
        ("mongodb://ada:hid@den@one", "mongodb://one"),
        ("redis://:hidden@[::1]:6379/0", "redis://[::1]:6379"),
        ("amqp://rabbit//hidden", "amqp://rabbit"),
        ("memory://", "memory://"),
        ("mongodb://one/?password=hidden", "mongodb://one"),
    ],
)
def test_of_a_url_only_the_server_is_shown(url: str, shown: str) -> None:
    assert server_of(url) == shown


def test_codes_of_exits_are_those_of_the_contract() -> None:
    assert (exits.CANNOT_GO_ON, exits.BAD_SETTINGS) == (1, 2)


@pytest.mark.parametrize("options", [[], ["--in-prod"], ["--password", "long enough"]])
def test_sample_data_is_not_for_prod_unless_somebody_insists(
    monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    for setting, value in PROD.items():
        monkeypatch.setenv(setting, value)
    refused = CliRunner().invoke(main.cli, ["--env", "prod", "seed", "--url", "http://127.0.0.1:9", *options])
    assert refused.exit_code == exits.BAD_SETTINGS
    assert refused.stderr.startswith("dossier: seed: ")
    insisting = ["--in-prod", "--password", "long enough"]
    gone_on = CliRunner().invoke(main.cli, ["--env", "prod", "seed", "--url", "http://127.0.0.1:9", *insisting])
    assert gone_on.exit_code == exits.CANNOT_GO_ON
