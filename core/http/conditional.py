"""ETags and the headers that ask about them (RFC 9110 §13), and single byte ranges (§14)."""

import re
from hashlib import sha256
from typing import TypeVar

from fastapi import Request, Response

from core.errors import PreconditionFailed, PreconditionRequired, RangeUnsatisfiable

T = TypeVar("T")

_TAG = re.compile(r'(?:W/)?"[^"]*"')
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def etag_of(*parts: object) -> str:
    """A strong ETag that changes when one of the parts does."""
    return f'"{sha256(repr(parts).encode()).hexdigest()[:32]}"'


def not_modified(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names this version."""
    sent = dict(request.scope["headers"]).get(b"if-none-match")
    if sent is None:
        return False
    given = sent.decode("latin-1")
    return given.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _TAG.findall(given)}


def answer_with_etag(request: Request, response: Response, etag: str, body: T) -> T | Response:
    """The body with its ETag, or 304 where the caller has this version already."""
    if not_modified(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.raw_headers.append((b"etag", etag.encode()))
    return body


def demand_match(request: Request, etag: str, *, required: bool = False) -> None:
    """Raises PreconditionFailed where `If-Match` is sent and does not name this version, weakly or in another form.

    Raises PreconditionRequired where it is required and not sent.
    """
    given = request.headers.get("if-match")
    if given is None:
        if required:
            raise PreconditionRequired
        return
    is_list = all(_TAG.fullmatch(tag.strip()) for tag in given.split(","))  # no tag of ours holds a comma
    if given.strip() != "*" and not (is_list and etag in _TAG.findall(given)):
        raise PreconditionFailed


def byte_range(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """First and last byte asked for, None for all of it. Raises RangeUnsatisfiable, also for several ranges."""
    header = request.headers.get("range")
    if header is None or not header.startswith("bytes=") or request.headers.get("if-range", etag) != etag:
        return None
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        raise RangeUnsatisfiable(size)
    first, last = match.groups()
    if first == "":  # the last n bytes
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start > end or start >= size:
        raise RangeUnsatisfiable(size)
    return start, end
