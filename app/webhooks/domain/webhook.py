"""A webhook: where an owner wants to be told of which events, and how that has gone lately."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel

Status = Literal["active", "degraded", "disabled"]

MOST_OF_ONE_OWNER: Final = 100  # each costs a row per event
IN_FLIGHT, PER_SECOND = 4, 50  # of one webhook, however many processes deliver
DEGRADED_AFTER: Final = 5  # failures in a row: then one trial at a time
DEGRADED_PAUSE_S: Final = 60  # at most, between two of those
DISABLED_AFTER: Final = timedelta(days=5)  # of nothing but failures
OVERLAP: Final = timedelta(hours=24)  # after a rotation both secrets sign
MOST_SECRETS: Final = 5  # a receiver need not look at more signatures

HEALTHY: Final[dict[str, Any]] = {"status": "active", "failures": 0, "failing_since": None, "paused_until": None}


class Secret(BaseModel):
    """Encrypted; `ends_at` is set once a newer one took its place."""

    id: str
    sealed: str
    ends_at: datetime | None = None


class Slot(BaseModel):
    """One attempt under way; ends by itself when its process died."""

    token: str
    until: datetime


class Webhook(BaseModel):
    """`version` counts the owner's changes. From `failures` on it is what deliveries keep."""

    id: str
    owner_id: str
    url: str
    events: tuple[str, ...]
    secrets: tuple[Secret, ...]  # the newest first
    status: Status = "active"
    version: int = 1
    created_at: datetime
    updated_at: datetime
    failures: int = 0  # in a row
    failing_since: datetime | None = None
    paused_until: datetime | None = None
    slots: tuple[Slot, ...] = ()

    def secrets_at(self, now: datetime) -> tuple[Secret, ...]:
        """Those that sign."""
        return tuple(secret for secret in self.secrets if secret.ends_at is None or secret.ends_at > now)

    def with_newer(self, secret: Secret, now: datetime) -> tuple[Secret, ...]:
        """The secrets once this one took the first place."""
        before, *older = self.secrets_at(now)
        return (secret, before.model_copy(update={"ends_at": now + OVERLAP}), *older)[:MOST_SECRETS]
