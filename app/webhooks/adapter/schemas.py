"""JSON of webhooks and deliveries."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from app.webhooks.domain.delivery import Attempt, Delivery
from app.webhooks.domain.delivery import Status as DeliveryStatus
from app.webhooks.domain.webhook import Status, Webhook
from core.http.routes import Body

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _distinct(events: list[str]) -> list[str]:
    if len(set(events)) != len(events):
        raise ValueError("each event may stand once")
    return events


def _rfc_3339(value: object) -> object:
    """Pydantic alone would take numbers, dates and more."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("must be a moment by RFC 3339")
    return value


Url = Annotated[str, Field(examples=["https://hooks.example.com/dossier"])]
Events = Annotated[
    list[str], Field(min_length=1, max_length=20, examples=[["document.completed"]]), AfterValidator(_distinct)
]
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), Field(strict=False, examples=["2026-01-31T10:00:00Z"])]


class WebhookCreate(Body):
    url: Url
    events: Events


class WebhookUpdate(Body):
    """What is absent stays as it is."""

    url: Url = ""
    events: Events = Field(default=[])
    status: Literal["active", "disabled"] = "active"

    def fields(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class WebhookRead(BaseModel):
    webhook_id: str = Field(examples=["whk_01kd4v8w3zj5n9q2r7t6x1y0ab"])
    url: str
    events: list[str]
    status: Status = Field(description="`degraded`: five failures in a row, so there is one trial at a time")
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookRead":
        return cls(webhook_id=webhook.id, **webhook.model_dump(include=set(WebhookRead.model_fields)))


class WebhookCreated(WebhookRead):
    secret: str = Field(description="Signs what is sent, as Standard Webhooks says; shown only here")


class SecretRead(BaseModel):
    secret: str = Field(description="Signs from now on; the one before does so too for 24 hours")


class DeliveryRead(BaseModel):
    delivery_id: str
    event_id: str = Field(description="`webhook-id`, the same in every attempt")
    event_type: str
    status: DeliveryStatus
    attempts: list[Attempt] = Field(description="The latest twenty")
    next_attempt_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryRead":
        return cls(delivery_id=delivery.id, **delivery.model_dump(include=set(cls.model_fields)))


class RecoverRequest(Body):
    since: Moment = Field(description="What failed since then is sent again; at most fourteen days ago")


class Recovered(BaseModel):
    deliveries: int = Field(description="How many are sent again")
