"""Signatures of messages between programs: Standard Webhooks, `v1` (https://www.standardwebhooks.com)."""

import base64
import hmac
import re
from collections.abc import Iterable, Sequence

from pydantic import SecretStr

from core.errors import Unauthenticated
from core.setting_types import parts_of

TOLERANCE_S = 300
MAX_SIGNATURES, MAX_HEADER = 5, 2048
Headers = Iterable[tuple[bytes, bytes]]


CHALLENGE = 'webhook-signature realm="dossier"'


class SignatureInvalid(Unauthenticated):
    challenge = CHALLENGE
    title = "The signature does not fit the message"


class SignatureExpired(Unauthenticated):
    challenge = CHALLENGE
    title = "The message was signed too long ago, or our clocks differ"


def signing_keys(setting: SecretStr | None) -> tuple[bytes, ...]:
    """Of a setting that holds one secret or, while they are rotated, several."""
    return tuple(signing_key(secret) for secret in parts_of(setting))


def signing_key(secret: str) -> bytes:
    """The key inside `whsec_…`."""
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def new_secret(random_bytes: bytes) -> str:
    """`whsec_…` of 24 to 64 random bytes."""
    return "whsec_" + base64.b64encode(random_bytes).decode()


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message, signed with every key. An id has no dot, or another one would sign alike."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, message_id, timestamp, body) for key in keys),
    }


def verify(keys: Sequence[bytes], headers: Headers, body: bytes, now: float) -> str:
    """The message's id. Raises SignatureInvalid, or SignatureExpired where only its time is wrong."""
    message_id, timestamp, signatures = _three(headers)
    given = signatures.split(" ")[:MAX_SIGNATURES]
    good = False
    for key in keys:
        wanted = _signature(key, message_id, int(timestamp), body)
        for signature in given:  # all of them, no early exit; as text: base64 has several spellings of the same bytes
            good |= hmac.compare_digest(wanted, signature)
    if not good:
        raise SignatureInvalid
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise SignatureExpired
    return message_id


def _signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    digest = hmac.digest(key, b"%s.%d." % (message_id.encode(), timestamp) + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def _three(headers: Headers) -> tuple[str, str, str]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    values = [found.get(name, []) for name in (b"webhook-id", b"webhook-timestamp", b"webhook-signature")]
    if any(len(value) != 1 or not value[0].isascii() for value in values):
        raise SignatureInvalid
    message_id, timestamp, signatures = (value[0].decode() for value in values)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", message_id) or not re.fullmatch(r"[0-9]{10}", timestamp):
        raise SignatureInvalid
    if len(signatures) > MAX_HEADER:
        raise SignatureInvalid
    return message_id, timestamp, signatures
