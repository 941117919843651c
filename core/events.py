"""Events: written in the same update as the change they tell of, kept until every subscriber has closed its copy."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import Field

from core.tracing import carried
from core.values import Value


class OutboxEvent(Value):
    """One event; `seq` orders the events of one aggregate, `event_id` stays the same over every delivery."""

    event_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")  # receivers know a repeat by it
    seq: int
    type: str
    at: datetime
    owner_id: str
    trace: str = Field(default_factory=carried)  # what its subscribers go on with
    data: dict[str, Any]


class NotYet(Exception):
    """Raised by a handler that passed the event on: whoever has it closes the copy, which stays open until then."""


class Announcements(Protocol):
    """The relay of a module, as its application knows it."""

    async def run_for(self, aggregate_id: str) -> None:
        """Tells subscribers what happened to one aggregate; best effort, a periodic task tells the rest."""


Handle = Callable[[OutboxEvent], Awaitable[None]]


@dataclass(frozen=True)
class Subscriber:
    """Who is told of which types. `handle` may be called again for the same event, and out of order."""

    name: str
    types: frozenset[str]
    handle: Handle
    passes_on: bool = False  # its handler only sends the event to another process, and raises NotYet

    @classmethod
    def made_when_told(cls, name: str, types: Collection[str], make: Callable[[], Any]) -> "Subscriber":
        """Subscribers are joined before anything else is built: what handles is made with the first event."""

        async def handle(event: OutboxEvent) -> None:
            await make().handle(event)

        return cls(name, frozenset(types), handle)


def event_id(aggregate_id: str, seq: int) -> str:
    """Unique over all modules, and the same however often it is made."""
    return f"evt_{aggregate_id}_{seq}"
