"""The token codec only ever returns claims or refuses; whoever holds the key has no more rights than the rules."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jose import jws

from core.config import ConfigError
from core.errors import Unauthenticated
from core.security.tokens import SigningKey, TokenCodec, TokenExpired, TokenInvalid, load_signing_keys

NOW = 1_800_000_000
USER, SESSION = "usr_" + "0" * 26, "ses_" + "1" * 26
CLAIMS = {
    "iss": "dossier", "aud": "api", "sub": USER, "sid": SESSION, "jti": "a" * 32,
    "iat": NOW, "nbf": NOW, "exp": NOW + 600,
}  # fmt: skip


@pytest.fixture(scope="module")
def key(signing_key: Path) -> SigningKey:
    return load_signing_keys([signing_key])[0]


@pytest.fixture(scope="module")
def codec(key: SigningKey) -> TokenCodec:
    return TokenCodec([key], issuer="dossier", access_ttl=600, refresh_ttl=6000, now=lambda: NOW)


def signed(key: SigningKey, claims: Any, header: dict[str, Any] | None = None, alg: str = "ES256") -> str:
    """A token with our key and somebody else's ideas."""
    return jws.sign(claims, key.private, headers={"kid": key.kid, "typ": "at+jwt"} | (header or {}), algorithm=alg)


def test_what_is_minted_is_verified(codec: TokenCodec, key: SigningKey) -> None:
    access = codec.verify_access(codec.mint_access(USER, SESSION))
    assert (access.user_id, access.session_id, access.expires_at) == (USER, SESSION, NOW + 600)
    refresh = codec.verify_refresh(codec.mint_refresh(USER, SESSION, 3, 10**9))
    assert (refresh.user_id, refresh.session_id, refresh.generation) == (USER, SESSION, 3)
    assert codec.verify_access(signed(key, CLAIMS)).user_id == USER


def test_the_kinds_exclude_each_other(codec: TokenCodec) -> None:
    with pytest.raises(TokenInvalid):
        codec.verify_refresh(codec.mint_access(USER, SESSION))
    with pytest.raises(TokenInvalid):
        codec.verify_access(codec.mint_refresh(USER, SESSION, 1, 600))


@pytest.mark.parametrize("name", sorted(CLAIMS))
@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, "x", "", -1, 2**40, [NOW], "\u0000", ["api"]])
def test_every_claim_is_required_and_typed(codec: TokenCodec, key: SigningKey, name: str, value: object) -> None:
    with pytest.raises(Unauthenticated):
        codec.verify_access(signed(key, {**CLAIMS, name: value}))
    with pytest.raises(TokenInvalid):
        codec.verify_access(signed(key, {claim: v for claim, v in CLAIMS.items() if claim != name}))


def test_no_other_claim_is_taken(codec: TokenCodec, key: SigningKey) -> None:
    with pytest.raises(TokenInvalid):
        codec.verify_access(signed(key, {**CLAIMS, "role": "admin"}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"iat": NOW - 9, "exp": NOW}, TokenExpired),
        ({"iat": NOW - 600, "nbf": NOW - 600, "exp": NOW - 1}, TokenExpired),
        ({"exp": NOW + 601}, TokenInvalid),
        ({"iat": NOW + 6, "exp": NOW + 500}, TokenInvalid),
        ({"nbf": NOW + 6}, TokenInvalid),
        ({"iss": "other"}, TokenInvalid),
        ({"aud": "auth/refresh"}, TokenInvalid),
        ({"sub": "usr_1"}, TokenInvalid),
        ({"sid": USER}, TokenInvalid),
    ],
)
def test_times_and_names_are_exact(
    codec: TokenCodec, key: SigningKey, changes: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        codec.verify_access(signed(key, {**CLAIMS, **changes}))


@pytest.mark.parametrize(
    "header",
    [{"kid": "other"}, {"kid": ""}, {"typ": "JWT"}, {"typ": "rt+jwt"}, {"crit": ["x"]}, {"b64": False}, {"jku": "http://x"},
     {"jwk": {"kty": "EC"}}, {"x5u": "http://x"}, {"alg": "none"}, {"alg": "HS256"}],
)  # fmt: skip
def test_a_header_that_is_not_ours_is_refused(codec: TokenCodec, key: SigningKey, header: dict[str, object]) -> None:
    genuine = signed(key, CLAIMS)
    head = json.loads(base64.urlsafe_b64decode(genuine.split(".")[0] + "==")) | header
    forged = base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenInvalid):
        codec.verify_access(".".join([forged, *genuine.split(".")[1:]]))


def test_one_token_has_one_spelling(codec: TokenCodec) -> None:
    token = codec.mint_access(USER, SESSION)
    head, body, signature = token.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]  # the bits that decoding drops
    for other in (f"{head}.{body}.{spare}", f"{head}=.{body}.{signature}", token + "=", f" {token}", token + "\n"):
        with pytest.raises(TokenInvalid):
            codec.verify_access(other)


@pytest.mark.parametrize(
    "payload",
    [b"[" * 2000, b'{"exp":1e400}', b'{"a":1,"a":2}', b"\xff\xfe", b'{"exp":NaN}', b"null", b"[]", b'"x"', b"1" * 2000],
)
def test_payloads_that_break_parsers_are_refused(codec: TokenCodec, key: SigningKey, payload: bytes) -> None:
    with pytest.raises(TokenInvalid):
        codec.verify_access(signed(key, payload))
    nested = base64.urlsafe_b64encode(payload[:500]).rstrip(b"=").decode()
    with pytest.raises(TokenInvalid):
        codec.verify_access(f"{nested}.e30.{'A' * 86}")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=5000))
def test_no_text_breaks_the_codec(codec: TokenCodec, text: str) -> None:
    with pytest.raises(Unauthenticated):
        codec.verify_access(text)
    with pytest.raises(Unauthenticated):
        codec.verify_refresh(text)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_changed_character_passes(codec: TokenCodec, position: int, character: str) -> None:
    token = codec.mint_access(USER, SESSION)
    position %= len(token)
    if token[position] != character:
        with pytest.raises(TokenInvalid):
            codec.verify_access(token[:position] + character + token[position + 1 :])


def test_a_key_taken_off_the_ring_ends_its_tokens(codec: TokenCodec, tmp_path: Path) -> None:
    from core.security.keys import ensure_local_signing_key

    fresh = load_signing_keys([ensure_local_signing_key(tmp_path)])
    other = TokenCodec(fresh, issuer="dossier", access_ttl=600, refresh_ttl=600, now=lambda: NOW)
    with pytest.raises(TokenInvalid):
        other.verify_access(codec.mint_access(USER, SESSION))


def test_a_remembered_token_still_expires(key: SigningKey) -> None:
    now = [NOW]
    codec = TokenCodec([key], issuer="dossier", access_ttl=60, refresh_ttl=60, now=lambda: now[0])
    token = codec.mint_access(USER, SESSION)
    codec.verify_access(token)
    now[0] += 60
    with pytest.raises(TokenExpired):
        codec.verify_access(token)


def test_an_expired_token_is_good_for_logout_and_nothing_else(key: SigningKey) -> None:
    now = [NOW]
    codec = TokenCodec([key], issuer="dossier", access_ttl=60, refresh_ttl=60, now=lambda: now[0])
    access, refresh = codec.mint_access(USER, SESSION), codec.mint_refresh(USER, SESSION, 1, 60)
    now[0] += 60
    assert codec.verify_access(access, expired_ok=True).session_id == SESSION
    for _ in range(2):  # remembered or not
        with pytest.raises(TokenExpired):
            codec.verify_access(access)
    with pytest.raises(TokenExpired):
        codec.verify_refresh(refresh)
    with pytest.raises(TokenInvalid):
        codec.verify_access(refresh, expired_ok=True)


def test_keys_that_cannot_serve_are_named_by_their_place(tmp_path: Path, signing_key: Path) -> None:
    (tmp_path / "text").write_text("no key")
    for paths in ([tmp_path / "absent"], [tmp_path / "text"], [signing_key, signing_key]):
        with pytest.raises(ConfigError, match="JWT_PRIVATE_KEYS: file"):
            load_signing_keys(paths)
    assert (signing_key.stat().st_mode & 0o777) == 0o600


def test_the_weak_backends_of_jose_are_not_loaded() -> None:
    code = "import sys, core.security.tokens; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "ecdsa" not in loaded
    assert "rsa" not in loaded
