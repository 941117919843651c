"""Writes docs/configuration.md and .env.example from the settings: `python -m tools.generate_configuration`."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from core.config import Settings

ROOT = Path(__file__).parent.parent

# A group begins with the setting named here; a new setting belongs to the group in which it is declared.
GROUPS = {
    "app_env": "This process",
    "mongo_url": "Stores",
    "registration_open": "People and tokens",
    "max_upload_bytes": "Edge",
    "api_key": "Services",
    "private_tokens": "Scans and outgoing calls",
    "processing_lease_seconds": "Work and logs",
}
# Defaults that the class does not show as they act.
DEFAULTS = {
    "mongo_url": "embedded replica set",
    "redis_url": "embedded",
    "broker_url": "`REDIS_URL`",
    "s3_endpoint_url": "embedded server",
    "s3_public_endpoint_url": "`S3_ENDPOINT_URL`",
    "aws_access_key_id": "that of the embedded server",
    "aws_secret_access_key": "that of the embedded server",
    "storage_local_path": "in the data folder",
    "registration_open": "`true`, in prod `false`",
    "docs_enabled": "`true`, in prod `false`",
    "jwt_private_keys": "generated in the data folder",
    "secret_keys": "derived from the JWT keys",
    "password_hash_concurrency": "min(4, cores)",
    "api_key": "generated in the data folder",
    "private_tokens": "generated in the data folder",
    "scan_signing_secret": "generated in the data folder",
    "scan_callbacks": "`default` = this process",
    "scan_allowed_buckets": "`S3_BUCKET`",
    "scan_source_template": "`*`",
}

INTRODUCTION = """# Settings

Generated from `core/config.py` by `python -m tools.generate_configuration`.

Settings come from the environment, then from `.env.NAME`, then from `.env`, where NAME is what `--env` says. Every one
has a default that is safe on your own machine; in `prod` nothing is embedded or generated, so those marked as
required there must be set. A wrong setting ends the start with exit code 2 and a line that names it, never its value.
An empty value counts as unset.

**secret** – may instead be put into a file that `NAME_FILE` names: `MONGO_URL_FILE=/run/secrets/mongo-url`. Such a
name is read from the environment only, not from an `.env` file.
"""

EXAMPLE = """# Copy to .env and take the `#` away where you want another value. docs/configuration.md says more.
# Generated from core/config.py by `python -m tools.generate_configuration`.
"""


def configuration() -> str:
    lines = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        if name in GROUPS:
            lines += [f"\n## {GROUPS[name]}\n", "| name | default | meaning |", "|---|---|---|"]
        secret = " · **secret**" if _is_secret(field) else ""
        default = DEFAULTS.get(name) or f"`{_value(field)}`".replace("``", "–")
        lines.append(f"| `{name.upper()}` | {default} | {field.description}{secret} |")
    return "\n".join(lines) + "\n"


def example() -> str:
    return EXAMPLE + "".join(f"{line}\n" for line in _example_lines())


def _example_lines() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if name in GROUPS:
            yield f"\n# --- {GROUPS[name]} ---\n"
        if name == "app_env":  # chosen before an .env file is read
            continue
        shown = f" (default: {DEFAULTS[name]})" if name in DEFAULTS else ""
        yield f"# {field.description}{shown}".replace("`", "")
        yield f"#{name.upper()}={'' if name in DEFAULTS else _value(field)}"


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _value(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None or default == {} else str(default)


if __name__ == "__main__":
    (ROOT / "docs/configuration.md").write_text(configuration(), "utf-8")
    (ROOT / ".env.example").write_text(example(), "utf-8")
