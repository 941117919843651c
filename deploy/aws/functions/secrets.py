"""From one secret of Secrets Manager to the settings of this process."""

import json
import os
from pathlib import Path

import boto3

NAMES = ("mongo_url", "redis_url", "secret_keys", "api_key", "private_tokens", "scan_signing_secret", "origin_secret")


def into_environment() -> None:
    """What the secret holds, where settings are read from; the signing key becomes a file that only we can read."""
    arn = os.environ["SECRETS_ARN"]
    secret = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
    os.environ.update({name.upper(): secret[name] for name in NAMES if name in secret})
    folder = Path(os.environ["DATA_DIR"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = folder / "jwt.pem"
    key.touch(0o600)
    key.write_text(secret["jwt_private_key"])
    os.environ["JWT_PRIVATE_KEYS"] = str(key)
