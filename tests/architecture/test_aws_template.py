"""The template for AWS fits the code; cfn-lint, which knows CloudFormation but weighs 178 MB, runs in CI alone."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.documents.domain.run_policy import MAXIMUM_RUN_S
from core.config import Settings, load_settings
from functions.secrets import NAMES
from tests.clients import SIGNING_SECRET

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/aws"


class Loader(yaml.SafeLoader):
    """Reads `!Ref Name` as text."""


Loader.add_multi_constructor("!", lambda loader, tag, node: f"{tag} {node.value}")
TEMPLATE: dict[str, Any] = yaml.load((DEPLOY / "template.yaml").read_text("utf-8"), Loader)
RESOURCES = TEMPLATE["Resources"]
FUNCTIONS = {name: body["Properties"] for name, body in RESOURCES.items() if body["Type"].endswith("::Function")}
VARIABLES: dict[str, str] = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_names_a_handler_that_exists(name: str) -> None:
    [command] = FUNCTIONS[name]["ImageConfig"]["Command"]
    module, _, function = command.rpartition(".")
    assert f"\ndef {function}(" in (DEPLOY / f"{module.replace('.', '/')}.py").read_text("utf-8")


def test_the_environment_of_the_functions_names_settings() -> None:
    assert {name.lower() for name in VARIABLES} <= {*Settings.model_fields, "secrets_arn"}


def test_prod_starts_with_what_the_template_and_the_secret_set(
    monkeypatch: pytest.MonkeyPatch, signing_key: Path
) -> None:
    key = "k" * 32
    given = {
        **{name: value for name, value in VARIABLES.items() if not value.startswith("!")},
        "APP_ENV": "prod",
        "S3_ENDPOINT_URL": "https://s3.eu-central-1.amazonaws.com",
        "WAKE_UPS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/wake-ups",
        "CORS_ORIGINS": "https://app.test",
        "TRUSTED_PROXIES": "",
        "AWS_ACCESS_KEY_ID": "ASIA",
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_SESSION_TOKEN": "token",
        "MONGO_URL": f"mongodb+srv://dossier:{key}@cluster.test",
        "REDIS_URL": f"rediss://:{key}@cache.test",
        "API_KEY": key,
        "PRIVATE_TOKENS": key,
        "SCAN_SIGNING_SECRET": SIGNING_SECRET,
        "JWT_PRIVATE_KEYS": str(signing_key),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert load_settings().is_prod
    assert given.keys() >= VARIABLES.keys() - {"S3_BUCKET", "SECRETS_ARN"}


def test_the_parameter_lists_what_is_read_from_the_secret() -> None:
    described = set(re.findall(r"[a-z]+(?:_[a-z]+)+", TEMPLATE["Parameters"]["SecretsArn"]["Description"]))
    assert described == {*NAMES, "jwt_private_key"}


def test_a_worker_outlives_the_longest_run_and_a_message_its_worker() -> None:
    timeout = FUNCTIONS["WorkerFunction"]["Timeout"]
    assert timeout >= MAXIMUM_RUN_S + 60
    assert RESOURCES["WakeUps"]["Properties"]["VisibilityTimeout"] >= 6 * timeout


def test_the_image_has_the_packages_that_the_tests_have() -> None:
    pins = [
        dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))
        for lock in ("deploy/aws/requirements.txt", "requirements-dev.txt", "requirements-image.txt")
    ]
    image, tests, base = pins
    assert image["mangum"] == tests["mangum"]
    assert {name: base[name] for name in image.keys() & base.keys()}.items() <= image.items()
