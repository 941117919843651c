"""Forms of settings: how each is read, and what is refused; a refusal never quotes the value."""

import base64
import binascii
import json
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from core.security.addresses import parse_origin, parse_url


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _each(check: Callable[[str], object], must_be: str) -> AfterValidator:
    """Every entry of a comma list passes `check`, which raises ValueError or answers."""

    def validate(value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for part in value:
                check(part)
        except ValueError:  # its own message may quote the value
            raise ValueError(f"must be {must_be}") from None
        return value

    return AfterValidator(validate)


def _each_secret(is_good: Callable[[str], bool], must_be: str) -> AfterValidator:
    """The same for a secret."""

    def validate(value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(map(is_good, parts_of(value))):
            raise ValueError(f"must be {must_be}")
        return value

    return AfterValidator(validate)


def _base64_bytes(text: str) -> int:
    """How many bytes it stands for; 0 where it is none."""
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return 0


def _is_key(text: str) -> bool:
    return 0 < len(text) <= 512 and text.isascii() and text.isprintable() and " " not in text


def _http_url(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # its own message may quote the value
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be an http(s) URL without user, query or fragment")
    return value.rstrip("/")


def _json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be a JSON object") from None


def _named_urls(value: dict[str, str]) -> dict[str, str]:
    for url in value.values():
        _http_url(url)
        parse_url(url)
    return value


def _schedule(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value or not all(0 <= seconds <= 604_800 for seconds in value):
        raise ValueError("must be a comma list of seconds, each at most a week")
    return value


def _server_url(*schemes: str) -> AfterValidator:
    """A secret URL; without `schemes` any will do."""
    begins = " or ".join(f"{scheme}://" for scheme in schemes) or "the name of a transport, such as amqp://"
    shape = re.compile(rf"({'|'.join(map(re.escape, schemes)) or '[a-z][a-z0-9+]*'})://.*", re.DOTALL)

    def validate(value: SecretStr | None) -> SecretStr | None:
        if value is not None and not shape.fullmatch(value.get_secret_value()):
            raise ValueError(f"must be a URL that begins with {begins}")
        return value

    return AfterValidator(validate)


def server_of(url: str) -> str:
    """A URL as far as it may be shown: without user, password, path and query."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest.rpartition('@')[2])[0]}"


def parts_of(secret: SecretStr | None) -> tuple[str, ...]:
    """The entries of a secret comma list."""
    return tuple(part.strip() for part in secret.get_secret_value().split(",")) if secret else ()


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[
    CommaList, _each(parse_origin, "a comma list of exact scheme://host:port, none of a metadata service")
]
Networks = Annotated[CommaList, _each(ip_network, "a comma list of networks such as 10.0.0.0/8")]
Schedule = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_split), AfterValidator(_schedule)]
MongoUrl = Annotated[SecretStr | None, _server_url("mongodb", "mongodb+srv")]
RedisUrl = Annotated[SecretStr | None, _server_url("redis", "rediss")]
BrokerUrl = Annotated[SecretStr | None, _server_url()]
HttpUrl = Annotated[str | None, AfterValidator(_http_url)]
NamedUrls = Annotated[dict[str, str], NoDecode, BeforeValidator(_json), AfterValidator(_named_urls)]
Roots = Annotated[
    SecretStr | None,
    _each_secret(lambda text: _base64_bytes(text) == 32, "a comma list of base64 of 32 bytes each"),
]
Keys = Annotated[
    SecretStr | None, _each_secret(_is_key, "a comma list of keys, each 1 to 512 visible ASCII characters")
]
SigningSecrets = Annotated[
    SecretStr | None,
    _each_secret(
        lambda text: text.startswith("whsec_") and 24 <= _base64_bytes(text.removeprefix("whsec_")) <= 64,
        "a comma list of whsec_ and base64 of 24 to 64 bytes each",
    ),
]
