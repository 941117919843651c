"""What the environment `prod` refuses to start with. Each line names a setting and never its value."""

import stat
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.security.addresses import parse_origin, parse_url
from core.setting_types import parts_of

if TYPE_CHECKING:
    from core.config import Settings


MIN_SECRET_CHARACTERS = 8  # what MinIO itself demands
MIN_KEY_CHARACTERS = 24
WELL_KNOWN = ("changeme", "minioadmin", "password", "secret")


def refusals(settings: "Settings") -> list[str]:
    """One line per reason; empty when it may start."""
    return _missing(settings) + _unsafe(settings) + _services(settings)


def _missing(settings: "Settings") -> list[str]:
    needed: dict[str, object] = {
        "MONGO_URL": settings.mongo_url,
        "REDIS_URL": settings.redis_url,
        "JWT_PRIVATE_KEYS": settings.jwt_private_keys or settings.secret_keys,  # a worker needs no signing key
    }
    if settings.storage_backend == "s3" and settings.needs_storage:
        needed |= {
            "S3_ENDPOINT_URL": settings.s3_endpoint_url,
            "AWS_ACCESS_KEY_ID": settings.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key,
        }
    return [f"{name}: must be set in prod, nothing is embedded there" for name, value in needed.items() if not value]


def _unsafe(settings: "Settings") -> list[str]:
    problems = []
    if _covers_everything(settings.trusted_proxies):
        problems.append("TRUSTED_PROXIES: must not cover every address, anybody could forge another's")
    if "*" in settings.cors_origins:
        problems.append("CORS_ORIGINS: must be exact origins in prod")
    for name in ("MONGO_URL", "REDIS_URL", "BROKER_URL"):
        url = getattr(settings, name.lower())
        if url is not None and not _has_credentials(url.get_secret_value()):
            problems.append(f"{name}: must carry credentials in prod")
    key = settings.aws_secret_access_key
    if settings.storage_backend == "s3" and key is not None and _is_weak(key.get_secret_value()):
        problems.append("AWS_SECRET_ACCESS_KEY: is a well-known or short value")
    if not 60 <= settings.access_token_ttl <= 3600:
        problems.append("ACCESS_TOKEN_TTL: must be 60 to 3600 seconds in prod")
    if settings.password_min_length < 8:
        problems.append("PASSWORD_MIN_LENGTH: must be at least 8 in prod")
    if any(_is_open_to_others(Path(path)) for path in settings.jwt_private_keys):
        problems.append("JWT_PRIVATE_KEYS: a key file can be read by every user of this machine (chmod 0400)")
    return problems


def _services(settings: "Settings") -> list[str]:
    """Keys between programs, and where scans may look and report to."""
    scans = settings.has_any("scans", "folders")
    needed: dict[str, object] = {}
    if settings.has_any("products", "inventory"):
        needed |= {"API_KEY": settings.api_key}
    if scans:
        needed |= {
            "PRIVATE_TOKENS": settings.private_tokens,
            "SCAN_SIGNING_SECRET": settings.scan_signing_secret,
            "SCAN_SOURCE_TEMPLATE": settings.scan_source_template,
        }
    problems = [
        f"{name}: must be set in prod, nothing is generated there" for name, value in needed.items() if not value
    ]
    for name, keys in (("API_KEY", settings.api_key), ("PRIVATE_TOKENS", settings.private_tokens)):
        if any(len(key) < MIN_KEY_CHARACTERS or _is_weak(key) for key in parts_of(keys)):
            problems.append(f"{name}: a key is well-known or shorter than {MIN_KEY_CHARACTERS} characters")
    listed = {parse_origin(text)[:3] for text in settings.egress_allowed_origins}
    for url in settings.scan_callbacks.values() if scans else ():
        if not url.startswith("https://") and parse_url(url)[:3] not in listed:
            problems.append("SCAN_CALLBACKS: a URL is neither https nor of EGRESS_ALLOWED_ORIGINS")
    return problems


def _has_credentials(url: str) -> bool:
    parts = urlsplit(url)
    # X.509 carries the name in the certificate.
    return bool(parts.password) or "authMechanism=MONGODB-X509" in parts.query


def _is_weak(secret: str) -> bool:
    return len(secret) < MIN_SECRET_CHARACTERS or any(word in secret.lower() for word in WELL_KNOWN)


def _covers_everything(networks: tuple[str, ...]) -> bool:
    parsed = [ip_network(text) for text in networks]
    whole = {"0.0.0.0/0", "::/0"}  # halves of it count together
    four = collapse_addresses([network for network in parsed if isinstance(network, IPv4Network)])
    six = collapse_addresses([network for network in parsed if isinstance(network, IPv6Network)])
    return not whole.isdisjoint(map(str, (*four, *six)))


def _is_open_to_others(path: Path) -> bool:
    """Secrets that Docker mounts count as closed: nobody else lives in that container."""
    if path.is_relative_to("/run/secrets"):
        return False
    try:
        file, folder = path.stat().st_mode, path.parent.stat().st_mode
    except OSError:
        return False  # whoever needs the key says that it cannot be read
    return bool(file & stat.S_IROTH and folder & stat.S_IXOTH)
