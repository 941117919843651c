"""Secrets of a data folder, made once: on one's own machine nobody has to invent any."""

import base64
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
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
    path = data_dir / FILE
    found = _read(path)
    missing = {name: value for name, value in _made().items() if name not in found}
    if missing:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{name}={value}\n" for name, value in {**found, **missing}.items())
        if found:  # a folder of an earlier version: what it has stays
            draft.replace(path)
        else:
            with suppress(FileExistsError):  # another process was first; its secrets are the secrets
                os.link(draft, path)
            draft.unlink()
        found = _read(path)
    return found


def with_local_secrets(settings: Settings) -> Settings:
    """Settings of `local` in which keys that nobody set are those of the data folder."""
    unset = [name for name in ("api_key", "private_tokens", "scan_signing_secret") if getattr(settings, name) is None]
    if settings.app_env != "local" or not unset:
        return settings
    made = local_secrets(settings.data_dir)
    return settings.model_copy(update={name: SecretStr(made[name.upper()]) for name in unset})


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
