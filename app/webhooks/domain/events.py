"""Which events a webhook may ask for, and what of each leaves the deployment."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel

from app.webhooks.domain.errors import EventNotAllowed
from core.events import OutboxEvent

_DOCUMENT = ("document_id", "status", "attempt", "error")
_SYNC = (
    "sync_id", "status", "batches_received", "documents_seen", "documents_created", "documents_updated",
    "documents_missing", "error",
)  # fmt: skip
_PRODUCT = ("product_id", "sku", "status", "version")

# Ids, states and counts, all of them short: a payload stays far below 20 kB. Whoever wants more asks the API.
FIELDS: Final[Mapping[str, Sequence[str]]] = {
    "document.uploaded": _DOCUMENT,
    "document.processing": _DOCUMENT,
    "document.completed": _DOCUMENT,
    "document.failed": _DOCUMENT,
    "document.deleted": _DOCUMENT,
    "scan.completed": _SYNC,
    "scan.failed": _SYNC,
    "product.created": _PRODUCT,
    "product.updated": _PRODUCT,
    "product.archived": _PRODUCT,
    "stock.changed": ("product_id", "movement_id", "seq", "kind", "on_hand", "reserved", "available"),
    "stock.low": ("product_id", "seq", "available", "threshold"),
}
_OF_PEOPLE = ("document.", "scan.")
TEST: Final = "webhook.test"
SERVICES: Final = "service:api_key"  # whoever calls with X-API-Key


class Payload(BaseModel):
    """What is sent."""

    type: str
    timestamp: datetime
    data: dict[str, Any]


def payload_of(event: OutboxEvent) -> bytes:
    """The bytes that are signed and sent, the same in every attempt."""
    wanted = FIELDS.get(event.type, ("webhook_id",))
    data = {name: event.data[name] for name in wanted if name in event.data}
    return Payload(type=event.type, timestamp=event.at, data=data).model_dump_json().encode()


def owner_of(event: OutboxEvent) -> str:
    """Whose webhooks are told: products and stock are the deployment's, whoever or whatever changed them."""
    return event.owner_id if event.type.startswith(_OF_PEOPLE) else SERVICES


def check_events(events: Sequence[str], *, for_service: bool) -> None:
    """Raises EventNotAllowed for what callers of this kind are not told of, or nobody is."""
    for number, name in enumerate(events):
        if name not in FIELDS or name.startswith(_OF_PEOPLE) is for_service:
            raise EventNotAllowed(pointer=f"/events/{number}")
