"""Endpoints of webhooks."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from app.webhooks.adapter.schemas import (
    DeliveryRead,
    Recovered,
    RecoverRequest,
    SecretRead,
    WebhookCreate,
    WebhookCreated,
    WebhookRead,
    WebhookUpdate,
)
from app.webhooks.application.service import WebhookService
from app.webhooks.domain.delivery import Status
from app.webhooks.domain.errors import EventNotAllowed, WebhookNotFound
from app.webhooks.domain.webhook import Webhook
from core.errors import CursorInvalid, Invalid, Malformed, PreconditionFailed, Unauthenticated
from core.http.conditional import answer_with_etag, demand_match, etag_of
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.pagination import CurrentCursors, CursorText, Limit, ListRead, list_page, position_of
from core.http.principal import CurrentPrincipal, Principal
from core.http.problems import responses
from core.http.routes import PeopleOrServicesRoute
from core.http.wired import wired
from core.security.egress import UrlNotAllowed

M = TypeVar("M", bound=BaseModel)

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=PeopleOrServicesRoute)


Service = Annotated[WebhookService, wired("webhooks.service")]
CurrentOnce = Annotated[Once, once_in("webhooks")]
STARTS = responses(Unauthenticated, WebhookNotFound, Invalid, Malformed, *REFUSALS)


@router.post(
    "", status_code=201, response_model=WebhookCreated,
    responses=responses(Unauthenticated, EventNotAllowed, UrlNotAllowed, Invalid, Malformed, *REFUSALS),
)  # fmt: skip
async def create_webhook(
    body: WebhookCreate, response: Response, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> WebhookCreated | Response:
    """Be told of events. People are told of their documents and scans, services of products and stock.

    A request is signed as Standard Webhooks says, comes at least once and in any order, and follows no redirect.
    2xx is success, 410 disables the webhook, anything else is tried again: in all ten times within three days.
    """

    async def create(command_id: str | None) -> WebhookCreated:
        webhook, secret = await service.create(
            principal.id, body.url, body.events, for_service=_is_service(principal), command_id=command_id
        )
        response.headers["Location"] = f"/webhooks/{webhook.id}"
        response.headers["ETag"] = _etag(webhook)
        return WebhookCreated(secret=secret, **WebhookRead.of(webhook).model_dump())

    return await once(body, create)


@router.get("", response_model=ListRead[WebhookRead], responses=responses(Unauthenticated, CursorInvalid, Invalid))
async def list_webhooks(
    request: Request, response: Response, principal: CurrentPrincipal, service: Service, cursors: CurrentCursors,
    limit: Limit = 50, cursor: CursorText = None,
) -> ListRead[WebhookRead]:  # fmt: skip
    """Your webhooks, newest first."""
    after = position_of(request, cursors, cursor, {})
    page = await service.list(principal.id, after, limit)
    return list_page(request, response, cursors, page, WebhookRead.of, {}, limit)


@router.get("/{webhook_id}", response_model=WebhookRead, responses=responses(Unauthenticated, WebhookNotFound))
async def get_webhook(
    webhook_id: str, request: Request, response: Response, principal: CurrentPrincipal, service: Service
) -> Any:
    """One webhook."""
    webhook = await service.get(principal.id, webhook_id)
    return answer_with_etag(request, response, _etag(webhook), WebhookRead.of(webhook))


@router.patch(
    "/{webhook_id}", response_model=WebhookRead,
    responses=responses(
        Unauthenticated, WebhookNotFound, PreconditionFailed, EventNotAllowed, UrlNotAllowed, Invalid, Malformed
    ),
)  # fmt: skip
async def change_webhook(
    webhook_id: str, body: WebhookUpdate, request: Request, response: Response, principal: CurrentPrincipal,
    service: Service,
) -> WebhookRead:  # fmt: skip
    """Change where and of what you are told. `active` also ends what failures brought about; `disabled` ends sending.

    With `If-Match` only where it has not changed since you read it.
    """
    demand: Callable[[Webhook], None] = lambda found: demand_match(request, _etag(found))  # noqa: E731
    webhook = await service.change(
        principal.id, webhook_id, body.fields(), for_service=_is_service(principal), demand=demand
    )
    response.headers["ETag"] = _etag(webhook)
    return WebhookRead.of(webhook)


@router.delete(
    "/{webhook_id}", status_code=204, responses=responses(Unauthenticated, WebhookNotFound, PreconditionFailed)
)
async def delete_webhook(webhook_id: str, request: Request, principal: CurrentPrincipal, service: Service) -> None:
    """Delete a webhook. What waits to be sent to it is not sent. `If-Match` as above."""
    await service.remove(principal.id, webhook_id, demand=lambda found: demand_match(request, _etag(found)))


@router.post("/{webhook_id}/test", status_code=202, response_model=DeliveryRead, responses=STARTS)
async def test_webhook(
    webhook_id: str, response: Response, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> DeliveryRead | Response:
    """Send a `webhook.test`."""

    async def test(command_id: str | None) -> DeliveryRead:
        delivery = await service.test(principal.id, webhook_id, command_id)
        return _accepted(response, webhook_id, DeliveryRead.of(delivery))

    return await once({}, test)


@router.post("/{webhook_id}/rotate-secret", response_model=SecretRead, responses=STARTS)
async def rotate_secret(
    webhook_id: str, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> SecretRead | Response:
    """A new secret. For 24 hours the one before signs as well."""

    async def rotate(command_id: str | None) -> SecretRead:
        return SecretRead(secret=await service.rotate(principal.id, webhook_id, command_id))

    return await once({}, rotate)


@router.get(
    "/{webhook_id}/deliveries", response_model=ListRead[DeliveryRead],
    responses=responses(Unauthenticated, WebhookNotFound, CursorInvalid, Invalid),
)  # fmt: skip
async def list_deliveries(
    webhook_id: str, request: Request, response: Response, principal: CurrentPrincipal, service: Service,
    cursors: CurrentCursors, status: Annotated[Status | None, Query()] = None, limit: Limit = 50,
    cursor: CursorText = None,
) -> ListRead[DeliveryRead]:  # fmt: skip
    """What was sent or waits to be, newest first. Kept for 30 days after it ended."""
    filters = {"status": status}
    after = position_of(request, cursors, cursor, filters)
    page = await service.list_deliveries(principal.id, webhook_id, status, after, limit)
    return list_page(request, response, cursors, page, DeliveryRead.of, filters, limit)


@router.post("/deliveries/{delivery_id}/redeliver", status_code=202, response_model=DeliveryRead, responses=STARTS)
async def redeliver(
    delivery_id: str, response: Response, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> DeliveryRead | Response:
    """Send it again, whatever became of it, with the same `webhook-id`."""

    async def again(_: str | None) -> DeliveryRead:
        delivery = await service.redeliver(principal.id, delivery_id)
        return _accepted(response, delivery.webhook_id, DeliveryRead.of(delivery))

    return await once({}, again)


@router.post("/{webhook_id}/recover", status_code=202, response_model=Recovered, responses=STARTS)
async def recover(
    webhook_id: str, body: RecoverRequest, response: Response, principal: CurrentPrincipal, service: Service,
    once: CurrentOnce,
) -> Recovered | Response:  # fmt: skip
    """Send again what failed since a moment, after your side was down."""

    async def act(_: str | None) -> Recovered:
        return _accepted(
            response, webhook_id, Recovered(deliveries=await service.recover(principal.id, webhook_id, body.since))
        )

    return await once(body.model_dump(mode="json"), act)


def _accepted(response: Response, webhook_id: str, body: M) -> M:
    response.headers["Location"] = f"/webhooks/{webhook_id}/deliveries"
    response.headers["Retry-After"] = "1"
    return body


def _is_service(principal: Principal) -> bool:
    return principal.kind == "service"


def _etag(webhook: Webhook) -> str:
    return etag_of(webhook.id, webhook.version, webhook.status)
