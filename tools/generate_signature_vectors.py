"""Writes the signature vectors that the Python and the PHP verifier must agree on.

`python -m tools.generate_signature_vectors` after a change of `core/security/signing.py` or of this file.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from core.security.signing import MAX_HEADER, MAX_SIGNATURES, TOLERANCE_S, new_secret, sign, signing_key

FILE = Path(__file__).parents[1] / "examples/php/tests/vectors.json"
NOW = 1_800_000_000
OLD, NEW, FOREIGN = (new_secret(letter * 32) for letter in (b"o", b"n", b"f"))
ID = "msg_01J8Zq-x"
BODY = '{"type":"scan.batch","batch":0,"documents":[{"path":"Übersicht 2026.pdf"}]}'.encode()

Changes = dict[str, str | None]


def vectors() -> list[dict[str, object]]:
    """Each with headers, body (base64), the receiver's secrets and clock, and what the verifier must say."""
    return [*_valid(), *_out_of_time(), *_forged(), *_malformed()]


def _vector(
    name: str,
    expect: str,
    *,
    signed_with: tuple[str, ...] = (NEW,),
    secrets: tuple[str, ...] = (NEW,),
    body: bytes = BODY,
    received: bytes | None = None,
    at: int = NOW,
    message_id: str = ID,
    change: Changes | None = None,
) -> dict[str, object]:
    headers: Changes = {**sign([signing_key(secret) for secret in signed_with], message_id, at, body), **(change or {})}
    return {
        "name": name,
        "expect": expect,
        "now": NOW,
        "secrets": secrets,
        "headers": {header: value for header, value in headers.items() if value is not None},
        "body": base64.b64encode(body if received is None else received).decode(),
    }


def _valid() -> Iterator[dict[str, object]]:
    signature = _signature_of(BODY)
    yield _vector("as sent", "valid")
    yield _vector("empty body", "valid", body=b"")
    yield _vector("body that is not UTF-8", "valid", body=b"\xff\xfe\x00 raw")
    yield _vector("body with line ends and a trailing blank", "valid", body=b'{"a":1}\r\n ')
    yield _vector("shortest id", "valid", message_id="a")
    yield _vector("longest id", "valid", message_id="a" * 64)
    yield _vector("shortest secret", "valid", signed_with=(new_secret(b"s" * 24),), secrets=(new_secret(b"s" * 24),))
    yield _vector("longest secret", "valid", signed_with=(new_secret(b"l" * 64),), secrets=(new_secret(b"l" * 64),))
    yield _vector("rotation: sender signs with both, receiver knows the old", "valid", signed_with=(NEW, OLD),
                  secrets=(OLD,))  # fmt: skip
    yield _vector("rotation: sender signs with both, receiver knows the new", "valid", signed_with=(OLD, NEW))
    yield _vector("rotation: sender signs with the old, receiver knows both", "valid", signed_with=(OLD,),
                  secrets=(NEW, OLD))  # fmt: skip
    yield _vector("rotation: sender signs with the new, receiver knows both", "valid", secrets=(OLD, NEW))
    yield _vector("rotation: sender signs with the new, receiver knows it first", "valid", secrets=(NEW, OLD))
    yield _vector("before a signature of nobody", "valid", change={"webhook-signature": f"{signature} v1,AAAA"})
    yield _vector("after signatures of other kinds", "valid",
                  change={"webhook-signature": f"v1a,AAAA v2,{signature[3:]} nonsense {signature}"})  # fmt: skip


def _out_of_time() -> Iterator[dict[str, object]]:
    yield _vector("as old as allowed", "valid", at=NOW - TOLERANCE_S)
    yield _vector("as early as allowed", "valid", at=NOW + TOLERANCE_S)
    yield _vector("one second too old", "signature_expired", at=NOW - TOLERANCE_S - 1)
    yield _vector("one second too early", "signature_expired", at=NOW + TOLERANCE_S + 1)
    yield _vector("far in the past", "signature_expired", at=1_000_000_000)
    yield _vector("too old and forged", "signature_invalid", at=NOW - 4000, signed_with=(FOREIGN,))


def _forged() -> Iterator[dict[str, object]]:
    signature = _signature_of(BODY)
    yield _vector("another secret", "signature_invalid", signed_with=(FOREIGN,))
    yield _vector("rotation: the old secret after its end", "signature_invalid", signed_with=(OLD,))
    yield _vector("one byte of the body changed", "signature_invalid", received=BODY.replace(b":0", b":1"))
    yield _vector("body cut", "signature_invalid", received=BODY[:-1])
    yield _vector("body re-encoded as JSON", "signature_invalid", received=BODY.replace(b",", b", "))
    yield _vector("body appended to", "signature_invalid", received=BODY + b"\n")
    yield _vector("another id", "signature_invalid", change={"webhook-id": "msg_2"})
    yield _vector("a fresh time on an old message", "signature_invalid", at=NOW - 4000,
                  change={"webhook-timestamp": str(NOW)})  # fmt: skip
    yield _vector("boundary moved from the body into the id", "signature_invalid", message_id="a", body=b"1.b",
                  received=b"b", change={"webhook-id": "a.1"})  # fmt: skip
    for name, text in {
        "one letter": "v1," + ("A" if signature[3] != "A" else "B") + signature[4:],
        "cut": signature[:-4],
        "without padding": signature.rstrip("="),
        "in another spelling of the same bytes": _other_spelling(signature),
        "in URL-safe base64": "v1," + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        "in hex": "v1," + base64.b64decode(signature[3:]).hex(),
        "of another version": "v2" + signature[2:],
        "without a version": signature[3:],
        "with two commas": signature.replace(",", ",,"),
        "in capitals": "V1" + signature[2:],
    }.items():
        yield _vector(f"signature: {name}", "signature_invalid", change={"webhook-signature": text})


def _malformed() -> Iterator[dict[str, object]]:
    signature = _signature_of(BODY)
    for header, values in {
        "webhook-id": (None, "", "a.b", "a b", "a" * 65, "é", "msg\t1", f"{ID}, {ID}"),
        "webhook-timestamp": (
            None, "", "0", "-800000000", "+180000000", "1.8e9", "1800000000.0", "18000000000", " 1800000000",
            "0x6b49d200", "1_80000000", "١٨٠٠٠٠٠٠٠٠", f"{NOW}, {NOW}", "9" * 400,
        ),
        "webhook-signature": (
            None, "", "v1", "v1,", ",", "v1,=", "v1,é", "v1,!!!!",
            " ".join(["v1,AAAA"] * MAX_SIGNATURES + [signature]), signature + " " + "A" * MAX_HEADER,
        ),
    }.items():  # fmt: skip
        for value in values:
            shown = "absent" if value is None else repr(value[:24])
            yield _vector(
                f"{header}: {shown}",
                "signature_invalid",
                change={header: value},
                message_id=value if value and header == "webhook-id" else ID,
                at=_number(value) if value and header == "webhook-timestamp" else NOW,
            )


def _signature_of(body: bytes) -> str:
    return sign([signing_key(NEW)], ID, NOW, body)["webhook-signature"]


def _number(text: str) -> int:
    """What a lenient reader would take it for: only the strict one refuses such a message."""
    try:
        return int(text)
    except ValueError:
        return NOW


def _other_spelling(signature: str) -> str:
    """The last letter before the padding has two bits that no decoder looks at."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return signature[:-2] + letters[letters.index(signature[-2]) ^ 1] + "="


def document() -> str:
    """The file's text."""
    return json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(document(), "utf-8")
