"""Events: written in the same update as the change they tell of, kept until every subscriber has closed its copy."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class OutboxEvent(BaseModel):
    """One event; `seq` orders the events of one aggregate, `event_id` stays the same over every delivery."""

    model_config = ConfigDict(frozen=True)

    event_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")  # receivers know a repeat by it
    seq: int
    type: str
    at: datetime
    owner_id: str
    data: dict[str, Any]


class NotYet(Exception):
    """Raised by a handler that passed the event on: whoever has it closes the copy, which stays open until then."""


Handle = Callable[[OutboxEvent], Awaitable[None]]


@dataclass(frozen=True)
class Subscriber:
    """Who is told of which types. `handle` may be called again for the same event, and out of order."""

    name: str
    types: frozenset[str]
    handle: Handle


def event_id(aggregate_id: str, seq: int) -> str:
    """Unique over all modules, and the same however often it is made."""
    return f"evt_{aggregate_id}_{seq}"
