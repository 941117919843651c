"""Secrets at rest: AES-256-GCM, bound to the record that they lie in."""

import base64
import binascii
import os
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12  # bytes


class SealBroken(Exception):
    """Altered, moved from another record or purpose, or the key that sealed it is gone."""


class SecretBox:
    """Keys are those derived for one purpose: the first seals, all open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_mark(key): AESGCM(key) for key in keys}
        self.mark = next(iter(self._ciphers))  # how everything begins that is sealed from now on

    def seal(self, content: bytes, record_id: str) -> str:
        nonce = os.urandom(NONCE)
        sealed = nonce + self._ciphers[self.mark].encrypt(nonce, content, record_id.encode())
        return self.mark + base64.b64encode(sealed).decode()

    def open(self, text: str, record_id: str) -> bytes:
        """Raises SealBroken."""
        mark, _, rest = text.partition(".")
        try:
            sealed, cipher = base64.b64decode(rest, validate=True), self._ciphers[f"{mark}."]
            return cipher.decrypt(sealed[:NONCE], sealed[NONCE:], record_id.encode())
        except (KeyError, ValueError, binascii.Error, InvalidTag):
            raise SealBroken from None


def _mark(key: bytes) -> str:
    """Names a key without telling anything of it."""
    return sha256(b"dossier/mark" + key).hexdigest()[:12] + "."
