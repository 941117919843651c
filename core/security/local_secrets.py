"""Secrets of a data folder, made once: on one's own machine nobody has to invent any."""

import base64
import fcntl
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from core.config import Settings

FILE = "local.env"


def _made() -> dict[str, str]:
    return {
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "API_KEY": secrets.token_urlsafe(32),
        "PRIVATE_TOKENS": secrets.token_urlsafe(32),
        "SCAN_SIGNING_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }


def local_secrets(data_dir: Path) -> Mapping[str, str]:
    """Those of this folder, mode 0600; safe when several processes start together."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(data_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the first process makes what is missing, the others read it
        text = file.read()
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        missing = {name: value for name, value in _made().items() if name not in found}
        if missing:
            end_of_line = "" if text.endswith("\n") or not text else "\n"
            file.write(end_of_line + "".join(f"{name}={value}\n" for name, value in missing.items()))
        return found | missing


def with_local_secrets(settings: Settings) -> Settings:
    """Settings of `local` in which keys that nobody set are those of the data folder."""
    unset = [name for name in ("api_key", "private_tokens", "scan_signing_secret") if getattr(settings, name) is None]
    if settings.app_env != "local" or not unset:
        return settings
    made = local_secrets(settings.data_dir)
    return settings.model_copy(update={name: SecretStr(made[name.upper()]) for name in unset})
