"""Signatures of messages: equal to the reference, and nothing but the signed message passes."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from core.security.signing import (
    TOLERANCE_S,
    SignatureExpired,
    SignatureInvalid,
    new_secret,
    sign,
    signing_key,
    verify,
)
from tools import generate_signature_vectors

OLD, NEW, FOREIGN = b"o" * 32, b"n" * 32, b"f" * 32
NOW = 1_800_000_000
BODY = b'{"type":"scan.batch","batch":0}'
VECTORS = json.loads(generate_signature_vectors.FILE.read_text("utf-8"))

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
TIMES = st.integers(1_000_000_000, 9_999_999_999)
KEYS = st.binary(min_size=24, max_size=64)


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """As an ASGI server hands them on."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@given(KEYS, IDS, TIMES, st.text())
def test_signatures_are_those_of_the_reference(key: bytes, message_id: str, timestamp: int, text: str) -> None:
    body = text.encode("utf-8", "replace")
    expected = Webhook(new_secret(key)).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body.decode())
    headers = sign([key], message_id, timestamp, body)
    assert headers["webhook-signature"] == expected
    assert headers["webhook-timestamp"] == str(timestamp)
    assert verify([signing_key(new_secret(key))], raw(headers), body, timestamp) == message_id


def test_the_reference_accepts_what_we_sign() -> None:
    now = int(datetime.now(UTC).timestamp())
    Webhook(new_secret(NEW)).verify(BODY, sign([OLD, NEW], "msg_1", now, BODY))


@given(st.binary(), IDS)
def test_any_bytes_may_be_signed(body: bytes, message_id: str) -> None:
    assert verify([NEW], raw(sign([NEW], message_id, NOW, body)), body, NOW) == message_id


@given(st.data(), st.binary(min_size=1, max_size=80))
def test_a_changed_byte_anywhere_is_refused(data: st.DataObject, body: bytes) -> None:
    parts = [*(value.encode() for value in sign([NEW], "msg_1", NOW, body).values()), body]
    part = data.draw(st.integers(0, 3))
    position = data.draw(st.integers(0, len(parts[part]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != parts[part][position]))
    parts[part] = parts[part][:position] + bytes([byte]) + parts[part][position + 1 :]
    names = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
    with pytest.raises(SignatureInvalid):
        verify([NEW], list(zip(names, parts[:3], strict=True)), parts[3], NOW)


@given(st.binary(min_size=2), st.data())
def test_a_moved_boundary_is_refused(text: bytes, data: st.DataObject) -> None:
    """Bytes that wander between the id and the body."""
    signed = sign([NEW], "msg", NOW, text)
    cut = data.draw(st.integers(1, len(text)))
    moved = {**signed, "webhook-id": f"msg.{NOW}." + text[:cut].decode("latin-1")}
    with pytest.raises(SignatureInvalid):
        verify([NEW], raw(moved), text[cut:], NOW)


HEADER_NAMES = st.sampled_from([b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"host"])
ALMOST = st.sampled_from([b"msg_1", b"1800000000", b"v1,", b"v1,AAAA", b"v1,\xff", b" ", b"v1," + b"A" * 44])


@given(st.lists(st.tuples(HEADER_NAMES, st.binary(max_size=60) | ALMOST)), st.binary(max_size=20))
def test_no_headers_break_the_verifier(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify([NEW], headers, body, NOW)


@pytest.mark.parametrize("doubled", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_stands_twice_is_refused(doubled: str) -> None:
    headers = sign([NEW], "msg_1", NOW, BODY)
    with pytest.raises(SignatureInvalid):
        verify([NEW], [*raw(headers), (doubled.encode(), headers[doubled].encode())], BODY, NOW)


@pytest.mark.parametrize("seconds", [-TOLERANCE_S, TOLERANCE_S])
def test_a_message_is_good_for_five_minutes_around_its_time(seconds: int) -> None:
    headers = raw(sign([NEW], "msg_1", NOW, BODY))
    assert verify([NEW], headers, BODY, NOW + seconds) == "msg_1"
    with pytest.raises(SignatureExpired):
        verify([NEW], headers, BODY, NOW + seconds * 1.001)


def test_a_forged_message_never_learns_that_its_clock_is_wrong() -> None:
    with pytest.raises(SignatureInvalid):
        verify([NEW], raw(sign([FOREIGN], "msg_1", NOW - 4000, BODY)), BODY, NOW)


@pytest.mark.parametrize(
    ("signed_with", "known"),
    [([OLD], [OLD, NEW]), ([OLD], [NEW, OLD]), ([NEW], [OLD, NEW]), ([OLD, NEW], [OLD]), ([OLD, NEW], [NEW])],
)
def test_a_rotation_leaves_no_gap_on_either_side(signed_with: list[bytes], known: list[bytes]) -> None:
    assert verify(known, raw(sign(signed_with, "msg_1", NOW, BODY)), BODY, NOW) == "msg_1"


def test_a_removed_key_ends_at_once() -> None:
    with pytest.raises(SignatureInvalid):
        verify([NEW], raw(sign([OLD], "msg_1", NOW, BODY)), BODY, NOW)


def test_without_keys_nothing_passes() -> None:
    with pytest.raises(SignatureInvalid):
        verify([], raw(sign([], "msg_1", NOW, BODY)), BODY, NOW)


def test_a_secret_is_its_bytes_in_base64() -> None:
    assert signing_key(new_secret(bytes(range(24)))) == bytes(range(24))


@pytest.mark.parametrize("error", [SignatureInvalid, SignatureExpired])
def test_a_refusal_says_how_to_do_it_right(error: type[SignatureInvalid]) -> None:
    assert error().challenge == 'webhook-signature realm="dossier"'


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_shared_vector(vector: dict[str, Any]) -> None:
    """PHPUnit reads the same file."""
    keys = [signing_key(secret) for secret in vector["secrets"]]
    body, expected = base64.b64decode(vector["body"]), vector["expect"]
    try:
        found = "valid" if verify(keys, raw(vector["headers"]), body, vector["now"]) else "no id"
    except (SignatureInvalid, SignatureExpired) as refusal:
        found = refusal.code
    assert found == expected


def test_the_shared_vectors_are_current_and_of_every_kind() -> None:
    text = generate_signature_vectors.FILE.read_text("utf-8")
    assert text == generate_signature_vectors.document(), "run `python -m tools.generate_signature_vectors`"
    assert {vector["expect"] for vector in VECTORS} == {"valid", "signature_invalid", "signature_expired"}
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 50
