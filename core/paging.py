"""Keyset pages: what repositories return and endpoints encode."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Position:
    """The last item of a page: the next one starts behind it."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list; `next` is None on the last."""

    items: Sequence[T]
    next: Position | None
