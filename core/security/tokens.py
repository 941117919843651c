"""Access and refresh tokens: ES256 with an exact `kid`. python-jose signs and verifies bytes; the rules are here."""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jose import jwk, jws
from jose.backends.base import Key

from core.config import ConfigError
from core.errors import Unauthenticated
from core.ids import id_pattern, random_token
from core.strict_json import no_duplicates

# 86 characters of base64url are the 64 bytes of an ES256 signature.
SHAPE = re.compile(r"[A-Za-z0-9_-]{2,700}\.[A-Za-z0-9_-]{2,3000}\.[A-Za-z0-9_-]{86}")
LEEWAY_S = 5  # on iat and nbf: the clocks of replicas; none on exp, since we are the issuer
CACHED_CLAIMS = 4096

USER_ID, SESSION_ID, RANDOM_ID = id_pattern("usr"), id_pattern("ses"), re.compile(r"[0-9a-f]{32}")


class TokenMissing(Unauthenticated):
    title = "A bearer token is needed"


INVALID = 'Bearer realm="dossier", error="invalid_token"'


class TokenInvalid(Unauthenticated):
    challenge = INVALID
    title = "The token is not valid"


class TokenExpired(Unauthenticated):
    challenge = INVALID
    title = "The token has expired"


class TokenRevoked(Unauthenticated):
    challenge = INVALID
    title = "The session of this token has ended"


@dataclass(frozen=True)
class AccessClaims:
    """What an access token says once every check has passed."""

    user_id: str
    session_id: str
    expires_at: int


@dataclass(frozen=True)
class RefreshClaims:
    """What a refresh token says; `generation` is the rotation it was given out with."""

    user_id: str
    session_id: str
    generation: int


@dataclass(frozen=True)
class _Kind:
    typ: str
    audience: str
    claims: frozenset[str]


_COMMON = frozenset({"iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"})
_ACCESS = _Kind("at+jwt", "api", _COMMON)
_REFRESH = _Kind("rt+jwt", "auth/refresh", _COMMON | {"gen"})


@dataclass(frozen=True)
class SigningKey:
    """One P-256 key of the ring; `kid` is the start of its RFC 7638 thumbprint."""

    kid: str
    public: Key
    private: Key
    scalar: bytes

    @classmethod
    def from_pem(cls, pem: bytes) -> "SigningKey":
        """Raises ValueError when the PEM is not an unencrypted P-256 private key."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ValueError("not a P-256 key")
        point = key.public_key().public_numbers()
        thumbprint = json.dumps(
            {"crv": "P-256", "kty": "EC", "x": _number(point.x), "y": _number(point.y)}, separators=(",", ":")
        )
        public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return cls(
            kid=_b64(sha256(thumbprint.encode()).digest())[:16],
            public=jwk.construct(public_pem.decode(), "ES256"),
            private=jwk.construct(pem.decode(), "ES256"),
            scalar=key.private_numbers().private_value.to_bytes(32),
        )


def load_signing_keys(paths: Sequence[str | Path]) -> tuple[SigningKey, ...]:
    """The key ring in order: the first signs, all verify. Raises ConfigError."""
    if jwk.ECKey.__name__ != "CryptographyECKey":
        raise ConfigError("python-jose must use the cryptography backend; install python-jose[cryptography]")
    keys: list[SigningKey] = []
    for number, path in enumerate(paths, start=1):
        try:
            key = SigningKey.from_pem(Path(path).read_bytes())
        except OSError as cause:
            raise ConfigError(f"JWT_PRIVATE_KEYS: file {number} cannot be read") from cause
        except (ValueError, TypeError) as cause:
            raise ConfigError(f"JWT_PRIVATE_KEYS: file {number} is not a P-256 private key in PEM") from cause
        if any(key.kid == other.kid for other in keys):
            raise ConfigError(f"JWT_PRIVATE_KEYS: file {number} repeats a key")
        keys.append(key)
    return tuple(keys)


class TokenCodec:
    """Mints and verifies both kinds of token; only ever returns claims or raises TokenInvalid or TokenExpired."""

    def __init__(
        self,
        keys: Sequence[SigningKey],
        *,
        issuer: str,
        access_ttl: int,
        refresh_ttl: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._signer = keys[0]
        self._ring: Mapping[str, SigningKey] = {key.kid: key for key in keys}
        self._issuer, self._now = issuer, now
        self.access_ttl, self.refresh_ttl = access_ttl, refresh_ttl
        self._verified: dict[bytes, AccessClaims] = {}

    def mint_access(self, user_id: str, session_id: str) -> str:
        return self._mint(_ACCESS, user_id, session_id, self.access_ttl, jti=random_token())

    def mint_refresh(self, user_id: str, session_id: str, generation: int, ttl: int) -> str:
        """`ttl` in seconds: the configured life, or what is left of the session."""
        jti = f"{session_id}.{generation}"
        return self._mint(_REFRESH, user_id, session_id, min(ttl, self.refresh_ttl), jti=jti, gen=generation)

    def verify_access(self, token: str, *, expired_ok: bool = False) -> AccessClaims:
        """Claims of a good token; remembers them by digest, so a repeat costs a hash. Never decides revocation.

        `expired_ok` is for logout alone: who leaves late may leave.
        """
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            found = self._verify(token, _ACCESS)
            claims = AccessClaims(found["sub"], found["sid"], found["exp"])
            if len(self._verified) >= CACHED_CLAIMS:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = claims
        if claims.expires_at <= self._now() and not expired_ok:
            raise TokenExpired
        return claims

    def verify_refresh(self, token: str) -> RefreshClaims:
        claims = self._verify(token, _REFRESH)
        if claims["exp"] <= self._now():
            raise TokenExpired
        return RefreshClaims(claims["sub"], claims["sid"], claims["gen"])

    def _mint(self, kind: _Kind, user_id: str, session_id: str, ttl: int, **claims: object) -> str:
        now = int(self._now())
        body = {
            "iss": self._issuer, "aud": kind.audience, "sub": user_id, "sid": session_id,
            "iat": now, "nbf": now, "exp": now + ttl, **claims,
        }  # fmt: skip
        header = {"kid": self._signer.kid, "typ": kind.typ}
        return jws.sign(body, self._signer.private, headers=header, algorithm="ES256")

    def _verify(self, token: str, kind: _Kind) -> dict[str, Any]:
        try:
            return self._checked(token, kind)
        except Unauthenticated:
            raise
        except Exception as cause:  # RecursionError, UnicodeError, whatever a library invents
            raise TokenInvalid from cause

    def _checked(self, token: str, kind: _Kind) -> dict[str, Any]:
        _demand(len(token) <= 4096 and SHAPE.fullmatch(token) is not None)
        head, body, signature = token.split(".")
        header_bytes, _, _ = _canonical(head), _canonical(body), _canonical(signature)
        _demand(len(header_bytes) <= 512)
        header = _strict_object(header_bytes)
        _demand(set(header) == {"alg", "kid", "typ"} and all(type(value) is str for value in header.values()))
        key = self._ring.get(header["kid"])
        if key is None or header["alg"] != "ES256" or header["typ"] != kind.typ:
            raise TokenInvalid
        claims = _strict_object(jws.verify(token, key.public, algorithms=["ES256"]))
        _demand(set(claims) == kind.claims)
        self._check_claims(claims, kind)
        return claims

    def _check_claims(self, claims: dict[str, Any], kind: _Kind) -> None:
        times = [claims[name] for name in ("iat", "nbf", "exp")]
        _demand(all(type(value) is int and 0 <= value < 2**33 for value in times))  # a bool is no int here
        texts = [claims[name] for name in ("iss", "aud", "sub", "sid", "jti")]
        _demand(all(type(value) is str for value in texts))
        _demand(claims["iss"] == self._issuer and claims["aud"] == kind.audience)
        _demand(USER_ID.fullmatch(claims["sub"]) is not None and SESSION_ID.fullmatch(claims["sid"]) is not None)
        if kind is _REFRESH:
            generation, ttl = claims["gen"], self.refresh_ttl
            _demand(type(generation) is int and 1 <= generation < 2**53)
            _demand(claims["jti"] == f"{claims['sid']}.{generation}")
        else:
            ttl = self.access_ttl
            _demand(RANDOM_ID.fullmatch(claims["jti"]) is not None)
        now = self._now()
        issued, not_before, expires = times
        _demand(issued <= now + LEEWAY_S and not_before <= now + LEEWAY_S and 0 < expires - issued <= ttl)


def _demand(condition: bool) -> None:
    if not condition:
        raise TokenInvalid


def _canonical(part: str) -> bytes:
    """Decoded base64url; a second spelling of the same bytes is refused."""
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    _demand(_b64(raw) == part)
    return raw


def _strict_object(raw: bytes) -> dict[str, Any]:
    value = json.loads(raw.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=_refuse_constant)
    if type(value) is not dict:
        raise TokenInvalid
    return value


def _refuse_constant(_: str) -> object:
    raise TokenInvalid


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _b64(value.to_bytes(32))
