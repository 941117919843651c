"""ETags and the headers that ask about them (RFC 9110 §13), and single byte ranges (§14)."""

import re
from hashlib import sha256
from typing import TypeVar

from fastapi import Request, Response

from core.errors import PreconditionFailed, PreconditionRequired, RangeUnsatisfiable

T = TypeVar("T")

_TAG = re.compile(r'(?:W/)?"[^"]*"')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)
_DIGITS = 19  # more than any size has


def etag_of(*parts: object) -> str:
    """A strong ETag that changes when one of the parts does."""
    return f'"{sha256(repr(parts).encode()).hexdigest()[:32]}"'


def not_modified(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names this version."""
    given = _sent(request, b"if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _TAG.findall(given)}


def answer_with_etag(request: Request, response: Response, etag: str, body: T) -> T | Response:
    """The body with its ETag, or 304 where the caller has this version already."""
    response.raw_headers.append((b"etag", etag.encode()))
    if not not_modified(request, etag):
        return body
    unchanged = Response(status_code=304)
    unchanged.raw_headers += response.raw_headers
    return unchanged


def demand_match(request: Request, etag: str, *, required: bool = False) -> None:
    """Raises PreconditionFailed where `If-Match` is sent and does not name this version, weakly or in another form.

    Raises PreconditionRequired where it is required and not sent.
    """
    given = _sent(request, b"if-match")
    if given is None:
        if required:
            raise PreconditionRequired
        return
    is_list = all(_TAG.fullmatch(tag.strip()) for tag in given.split(","))  # no tag of ours holds a comma
    if given.strip() != "*" and not (is_list and etag in _TAG.findall(given)):
        raise PreconditionFailed


def byte_range(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """First and last byte asked for, None for all of it: also for several ranges, and for what is none.

    Raises RangeUnsatisfiable.
    """
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match.groups() == ("", "") or request.headers.get("if-range", etag) != etag:
        return None
    first, last = (int(digits.lstrip("0")[:_DIGITS] or 0) if digits else None for digits in match.groups())
    if first is None:  # the last n bytes
        first, last = max(size - (last or 0), 0), None
    if last is not None and last < first:
        return None
    if first >= size:
        raise RangeUnsatisfiable(size)
    return first, size - 1 if last is None else min(last, size - 1)


def _sent(request: Request, name: bytes) -> str | None:
    """Several lines of a header are one list."""
    headers: list[tuple[bytes, bytes]] = request.scope["headers"]
    if name not in dict(headers):
        return None
    return b",".join(value for each, value in headers if each == name).decode("latin-1")
