"""Keyset pages: newest first, `(created_at, _id)`, an opaque cursor that only fits the list it came from."""

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from core.errors import CursorInvalid
from core.http.wired import wired
from core.paging import Page, Position

T = TypeVar("T")
R = TypeVar("R")

Limit = Annotated[int, Query(ge=1, le=100, description="Items per page")]
CursorText = Annotated[str | None, Query(description="`next_cursor` of the page before")]


class ListRead(BaseModel, Generic[T]):
    """The JSON of a page."""

    items: list[T]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last")


class Cursors:
    """Writes and reads cursors: version, payload, HMAC over payload, route, principal and filters."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def encode(self, position: Position, scope: bytes) -> str:
        payload = orjson.dumps([int(position.created_at.timestamp() * 1000), position.id])
        return base64.urlsafe_b64encode(b"\x01" + payload + _mac(self._keys[0], payload, scope)).decode().rstrip("=")

    def decode(self, text: str | None, scope: bytes) -> Position | None:
        """Raises CursorInvalid when it was altered or comes from another list."""
        if text is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError) as cause:
            raise CursorInvalid from cause
        payload, mac = raw[1:-16], raw[-16:]
        if raw[:1] != b"\x01" or not any(hmac.compare_digest(mac, _mac(key, payload, scope)) for key in self._keys):
            raise CursorInvalid
        milliseconds, last_id = orjson.loads(payload)
        return Position(datetime.fromtimestamp(milliseconds / 1000, UTC), last_id)


CurrentCursors = Annotated[Cursors, wired("cursors")]


def position_of(
    request: Request, cursors: Cursors, cursor: str | None, filters: Mapping[str, str | None]
) -> Position | None:
    """Where the page asked for starts. Raises CursorInvalid."""
    return cursors.decode(cursor, _scope(request, filters))


def list_page(
    request: Request,
    response: Response,
    cursors: Cursors,
    page: Page[T],
    read: Callable[[T], R],
    filters: Mapping[str, str | None],
    limit: int,
) -> ListRead[R]:
    """The page as JSON; sets the `Link` header, a relative reference, where there is a next one."""
    cursor, headers = _next(request, cursors, page.next, filters, limit)
    response.headers.update(headers)
    return ListRead(items=[read(item) for item in page.items], next_cursor=cursor)


def encoded_page(
    request: Request, cursors: Cursors, page: Page[dict[str, Any]], filters: Mapping[str, str | None], limit: int
) -> Response:
    """The same of items that are as they shall be sent: no model between database and client, for busy lists."""
    cursor, headers = _next(request, cursors, page.next, filters, limit)
    body = orjson.dumps({"items": page.items, "next_cursor": cursor}, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
    return Response(body, headers=headers, media_type="application/json")


def _next(
    request: Request, cursors: Cursors, position: Position | None, filters: Mapping[str, str | None], limit: int
) -> tuple[str | None, dict[str, str]]:
    if position is None:
        return None, {}
    cursor = cursors.encode(position, _scope(request, filters))
    query = urlencode({**_given(filters), "limit": limit, "cursor": cursor})
    return cursor, {"Link": f'<{request.scope["path"]}?{query}>; rel="next"'}


def _scope(request: Request, filters: Mapping[str, str | None]) -> bytes:
    """What a cursor is bound to: the route, who asks, and the filters."""
    state = request.scope["state"]
    return orjson.dumps([state["path"], state["principal"].id, sorted(_given(filters).items())])


def _given(filters: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


def _mac(key: bytes, payload: bytes, scope: bytes) -> bytes:
    return hmac.digest(key, sha256(scope).digest() + payload, "sha256")[:16]
