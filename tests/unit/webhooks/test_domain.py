"""What is sent, to whom, and what the answer means."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.events import HERE
from app.inventory.contracts import STOCK_EVENTS
from app.products.contracts import PRODUCT_EVENTS
from app.webhooks.domain.delivery import LONGEST_RETRY_AFTER_S, Verdict, delivery_of, judged
from app.webhooks.domain.errors import EventNotAllowed
from app.webhooks.domain.events import FIELDS, check_events, payload_of
from app.webhooks.domain.webhook import MOST_SECRETS, OVERLAP, Secret, Webhook
from core.events import OutboxEvent
from core.security.egress import EgressAnswer
from core.security.signing import MAX_SIGNATURES

NOW = datetime(2026, 1, 31, 10, tzinfo=UTC)
SCHEDULE = (0, 5, 300)
PEOPLE = [name for name in FIELDS if name.startswith(("document.", "scan."))]
SERVICES = [name for name in FIELDS if name.startswith(("product.", "stock."))]


def event(kind: str = "document.completed", /, **data: Any) -> OutboxEvent:
    return OutboxEvent(event_id="evt_doc_1_2", seq=2, type=kind, at=NOW, owner_id="usr_1", data=data)


def webhook(*secrets: Secret) -> Webhook:
    return Webhook(
        id="whk_1", owner_id="usr_1", url="https://hooks.example.com/", events=("document.failed",), secrets=secrets,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


# Events


def test_every_event_of_the_contract_is_for_people_or_for_services() -> None:
    assert set(PEOPLE) | set(SERVICES) == set(FIELDS)
    assert {"webhooks"} == set(HERE["documents"])
    assert set(SERVICES) == PRODUCT_EVENTS | STOCK_EVENTS
    check_events(PEOPLE, for_service=False)
    check_events(SERVICES, for_service=True)


@pytest.mark.parametrize("for_service", [True, False])
def test_events_of_the_other_kind_and_unknown_ones_are_refused_where_they_stand(for_service: bool) -> None:
    good, others = (SERVICES, PEOPLE) if for_service else (PEOPLE, SERVICES)
    for name in [*others, "webhook.test", "document.exploded", "document.", "", "DOCUMENT.UPLOADED"]:
        with pytest.raises(EventNotAllowed) as refused:
            check_events([good[0], name], for_service=for_service)
        assert refused.value.pointer == "/events/1"


def test_a_payload_says_what_happened_and_leaves_the_rest_inside() -> None:
    product = {
        "product_id": "prd_1", "sku": "A-1", "name": "Lamp", "description": "x" * 100_000, "status": "active",
        "price": {"amount": "12.50", "currency": "EUR"}, "tags": ["t"], "version": 3,
    }  # fmt: skip
    body = payload_of(event("product.updated", **product))
    assert json.loads(body) == {
        "type": "product.updated",
        "timestamp": "2026-01-31T10:00:00Z",
        "data": {"product_id": "prd_1", "sku": "A-1", "status": "active", "version": 3},
    }


@pytest.mark.parametrize("kind", FIELDS)
def test_a_payload_is_small_however_much_an_event_holds(kind: str) -> None:
    everything = {name: "x" * 1024 for fields in FIELDS.values() for name in fields} | {"text": "x" * 1_000_000}
    body = payload_of(event(kind, **everything))
    assert set(json.loads(body)["data"]) == set(FIELDS[kind])
    assert len(body) < 20_000


# Deliveries


def test_a_delivery_is_named_after_event_and_webhook() -> None:
    one = delivery_of("whk_1", event(document_id="doc_1"), owner_id="usr_1")
    assert one == delivery_of("whk_1", event(document_id="doc_1"), owner_id="usr_1")
    assert one.id != delivery_of("whk_2", event(), owner_id="usr_1").id
    assert re.fullmatch(r"dlv_[0-9a-f]{26}", one.id)
    assert (one.status, one.next_attempt_at, one.event_id) == ("PENDING", NOW, "evt_doc_1_2")


def answer(status: int | None, error: Any = None, retry_after_s: int | None = None) -> EgressAnswer:
    return EgressAnswer(status, error, retry_after_s=retry_after_s)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status: int) -> None:
    assert judged(answer(status), 1, SCHEDULE, 1.0) == Verdict("DELIVERED")


def test_2xx_is_success_however_long_the_answer() -> None:
    assert judged(answer(200, "response_too_large"), 1, SCHEDULE, 1.0) == Verdict("DELIVERED")


@pytest.mark.parametrize(
    "failed",
    [
        answer(301, "redirect"), answer(400, "http_status"), answer(500, "http_status"), answer(None, "timeout"),
        answer(None, "dns"), answer(None, "tls"), answer(None, "connect"),
    ],
)  # fmt: skip
def test_anything_else_is_tried_again_by_the_schedule_and_then_given_up(failed: EgressAnswer) -> None:
    assert judged(failed, 1, SCHEDULE, 1.0) == Verdict("FAILED", 5)
    assert judged(failed, 2, SCHEDULE, 1.2) == Verdict("FAILED", 360)
    assert judged(failed, 3, SCHEDULE, 1.0) == Verdict("EXHAUSTED")


def test_a_refused_destination_is_final_and_410_ends_the_webhook() -> None:
    assert judged(answer(None, "url_not_allowed"), 1, SCHEDULE, 1.0) == Verdict("EXHAUSTED")
    assert judged(answer(410, "http_status"), 1, SCHEDULE, 1.0) == Verdict("EXHAUSTED", ends_webhook=True)


@pytest.mark.parametrize("status", [429, 503])
def test_the_receiver_may_ask_for_a_longer_pause_up_to_a_day(status: int) -> None:
    assert judged(answer(status, "http_status", 120), 1, SCHEDULE, 1.0).delay_s == 120
    assert judged(answer(status, "http_status", 1), 1, SCHEDULE, 1.0).delay_s == 5
    assert judged(answer(status, "http_status", 10**9), 1, SCHEDULE, 1.0).delay_s == LONGEST_RETRY_AFTER_S
    assert judged(answer(500, "http_status", 120), 1, SCHEDULE, 1.0).delay_s == 5


# Secrets


def test_after_a_rotation_both_secrets_sign_for_a_day() -> None:
    before = webhook(Secret(id="sec_1", sealed="x"))
    rotated = webhook(*before.with_newer(Secret(id="sec_2", sealed="y"), NOW))
    signing = {
        hours: [secret.id for secret in rotated.secrets_at(NOW + timedelta(hours=hours))] for hours in (0, 23, 24)
    }
    assert signing == {0: ["sec_2", "sec_1"], 23: ["sec_2", "sec_1"], 24: ["sec_2"]}


def test_secrets_never_outgrow_what_a_receiver_looks_at() -> None:
    hook = webhook(Secret(id="sec_0", sealed="x"))
    for number in range(1, 10):
        hook = webhook(*hook.with_newer(Secret(id=f"sec_{number}", sealed="x"), NOW + timedelta(minutes=number)))
    assert [secret.id for secret in hook.secrets] == ["sec_9", "sec_8", "sec_7", "sec_6", "sec_5"]
    assert len(hook.secrets) == MOST_SECRETS == MAX_SIGNATURES
    later = hook.with_newer(Secret(id="sec_10", sealed="x"), NOW + OVERLAP + timedelta(hours=1))
    assert [secret.id for secret in later] == ["sec_10", "sec_9"]
