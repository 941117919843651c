"""Keys derived from one root: a purpose never shares its key with another."""

import base64
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.config import Settings
from core.security.tokens import SigningKey


class DerivedKeys:
    """HKDF-SHA256 of every root, in order: the first writes, all read."""

    def __init__(self, roots: Sequence[bytes]) -> None:
        self._roots = tuple(roots)

    def derive(self, purpose: str) -> tuple[bytes, ...]:
        """One 32-byte key per root."""
        return tuple(
            HKDF(hashes.SHA256(), 32, salt=b"dossier/v1", info=purpose.encode()).derive(root) for root in self._roots
        )


def derived_keys(settings: Settings, signing_keys: Callable[[], Sequence[SigningKey]]) -> DerivedKeys:
    """Roots are SECRET_KEYS, or else the private scalars of the signing keys, which are read only then."""
    if settings.secret_keys is not None:
        parts = settings.secret_keys.get_secret_value().split(",")
        return DerivedKeys([base64.b64decode(part.strip()) for part in parts])
    return DerivedKeys([key.scalar for key in signing_keys()])


def ensure_local_signing_key(data_dir: Path) -> Path:
    """The generated key of a data folder, mode 0600; safe when several processes start together."""
    path = data_dir / "jwt-es256.pem"
    if path.exists():
        return path
    data_dir.mkdir(parents=True, exist_ok=True)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        with suppress(FileExistsError):  # another process was first; its key is the key
            os.link(draft, path)
    finally:
        draft.unlink()
    return path
