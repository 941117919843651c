"""One event for one webhook: the bytes to send, what came of each attempt, and when the next one is due."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel, Field

from app.webhooks.domain.events import payload_of
from core.events import OutboxEvent
from core.tracing import carried

Status = Literal["PENDING", "DELIVERED", "FAILED", "EXHAUSTED"]

LONGEST_RETRY_AFTER_S: Final = 86_400
MOST_ATTEMPTS: Final = 20  # that a row remembers
RECOVERABLE: Final = timedelta(days=14)


class Attempt(BaseModel):
    """One request; `error` is one of a closed set of words."""

    at: datetime
    status_code: int | None
    error: str | None
    duration_ms: int


class Delivery(BaseModel):
    """`tries` counts the attempts since it was last asked for, `attempts` are the latest of all."""

    id: str
    webhook_id: str
    owner_id: str
    event_id: str
    event_type: str
    body: bytes
    status: Status = "PENDING"
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()
    next_attempt_at: datetime | None
    locked_until: datetime | None = None
    token: str | None = None
    trace: str = Field(default_factory=carried)
    created_at: datetime
    closed_at: datetime | None = None


class Answer(Protocol):
    """How an attempt ended; `status` is None where there was no answer."""

    @property
    def status(self) -> int | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def duration_ms(self) -> int: ...
    @property
    def retry_after_s(self) -> int | None: ...


@dataclass(frozen=True)
class Verdict:
    """What an answer means for the delivery, and for its webhook."""

    status: Literal["DELIVERED", "FAILED", "EXHAUSTED"]
    delay_s: float = 0  # before the next attempt
    ends_webhook: bool = False


def delivery_of(webhook_id: str, event: OutboxEvent, *, owner_id: str) -> Delivery:
    """Due at once, and named after event and webhook, so that a repeat makes no second one."""
    name = sha256(f"{event.event_id}:{webhook_id}".encode()).hexdigest()
    values: dict[str, Any] = {"event_id": event.event_id, "event_type": event.type, "body": payload_of(event)}
    return Delivery(
        id=f"dlv_{name[:26]}", webhook_id=webhook_id, owner_id=owner_id, created_at=event.at, next_attempt_at=event.at,
        **values,
    )  # fmt: skip


def judged(answer: Answer, tries: int, schedule: Sequence[float], spread: float) -> Verdict:
    """`schedule`: seconds before each attempt; `spread`: 0.8 to 1.2, so that what failed together comes back apart."""
    if answer.status is not None and answer.status // 100 == 2:
        return Verdict("DELIVERED")
    if answer.status == 410:
        return Verdict("EXHAUSTED", ends_webhook=True)
    if answer.error == "url_not_allowed" or tries >= len(schedule):
        return Verdict("EXHAUSTED")
    asked_s = answer.retry_after_s if answer.status in (429, 503) else None
    return Verdict("FAILED", max(schedule[tries] * spread, min(asked_s or 0, LONGEST_RETRY_AFTER_S)))
