"""Endpoints of stock."""

import re
from collections.abc import Collection
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.inventory.adapter.schemas import (
    MovementCreate,
    MovementEntry,
    MovementRead,
    OnHandUpdate,
    StockRead,
    ThresholdUpdate,
)
from app.inventory.application.stocks import StockService
from app.inventory.domain.errors import (
    CatalogRefused,
    CatalogUnavailable,
    InsufficientStock,
    ProductArchived,
    ProductNotFound,
    StockBusy,
    StockChanged,
)
from app.inventory.domain.stock import Command, Stock
from core.errors import CursorInvalid, Invalid, Malformed, PreconditionFailed, Unauthenticated
from core.http.conditional import answer_with_etag
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.pagination import CurrentCursors, CursorText, Limit, ListRead, list_page, position_of
from core.http.principal import CurrentPrincipal, Principal
from core.http.problems import responses
from core.http.routes import ApiKeyRoute
from core.http.wired import wired
from core.ids import new_id
from core.tracing import current_request_id

router = APIRouter(prefix="/inventory", tags=["inventory"], route_class=ApiKeyRoute)
PRODUCT = (Unauthenticated, ProductNotFound, CatalogUnavailable, CatalogRefused)
_TAG = re.compile(r'(W/)?"v(\d{1,18})-\d+s?"')


Service = Annotated[StockService, wired("inventory.stock_service")]
CurrentOnce = Annotated[Once, once_in("inventory")]


@router.get("", response_model=ListRead[StockRead], responses=responses(Unauthenticated, CursorInvalid, Invalid))
async def list_stock(
    request: Request, response: Response, service: Service, cursors: CurrentCursors,
    low: Annotated[bool, Query(description="Only what is at or under its threshold")] = False,
    limit: Limit = 50, cursor: CursorText = None,
) -> ListRead[StockRead]:  # fmt: skip
    """Stock of all known products, newest product first."""
    filters = {"low": "true" if low else None}
    page = await service.list(low=low, after=position_of(request, cursors, cursor, filters), limit=limit)
    return list_page(request, response, cursors, page, StockRead.of, filters, limit)


@router.get("/{product_id}", response_model=StockRead, responses=responses(*PRODUCT))
async def get_stock(product_id: str, request: Request, response: Response, service: Service) -> Any:
    """Stock of one product; zeros where nothing has moved yet."""
    stock = await service.get(product_id)
    return answer_with_etag(request, response, _etag(stock), StockRead.of(stock))


@router.post(
    "/{product_id}/movements", status_code=201, response_model=MovementRead,
    responses=responses(*PRODUCT, InsufficientStock, ProductArchived, StockBusy, Invalid, Malformed, *REFUSALS),
)  # fmt: skip
async def move_stock(
    product_id: str, body: MovementCreate, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> MovementRead | Response:
    """Receive, issue or adjust: one line of the ledger. Stock that is reserved cannot be issued."""
    if body.quantity == 0 or (body.quantity < 0 and body.kind != "adjust"):
        raise Invalid("The quantity does not suit this kind of movement.", pointer="/quantity")

    async def move(command_id: str | None) -> MovementRead:
        command = command_of(principal, command_id, body.reason, body.reference)
        movement = await service.move(product_id, body.kind, body.quantity, command)
        return MovementRead.of(movement)

    return await once(body, move)


@router.get(
    "/{product_id}/movements", response_model=ListRead[MovementEntry],
    responses=responses(*PRODUCT, CursorInvalid, Invalid),
)  # fmt: skip
async def list_movements(
    product_id: str, request: Request, response: Response, service: Service, cursors: CurrentCursors,
    limit: Limit = 50, cursor: CursorText = None,
) -> ListRead[MovementEntry]:  # fmt: skip
    """The ledger of one product, newest first; `seq` has no gaps."""
    page = await service.movements(product_id, position_of(request, cursors, cursor, {}), limit)
    return list_page(request, response, cursors, page, MovementEntry.of, {}, limit)


@router.put(
    "/{product_id}/on-hand", response_model=StockRead,
    responses=responses(
        *PRODUCT, StockChanged, InsufficientStock, PreconditionFailed, StockBusy, Invalid, Malformed
    ),
)  # fmt: skip
async def set_on_hand(
    product_id: str, body: OnHandUpdate, request: Request, response: Response, principal: CurrentPrincipal,
    service: Service,
) -> StockRead:  # fmt: skip
    """Set what was counted, where it still is what you expect."""
    stock = await service.set_on_hand(
        product_id, body.quantity, command_of(principal, None, body.reason),
        expected=body.expected_quantity, versions=_versions(request),
    )  # fmt: skip
    response.headers["ETag"] = _etag(stock)
    return StockRead.of(stock)


@router.put(
    "/{product_id}/threshold", response_model=StockRead,
    responses=responses(*PRODUCT, PreconditionFailed, StockBusy, Invalid, Malformed),
)  # fmt: skip
async def set_threshold(
    product_id: str, body: ThresholdUpdate, request: Request, response: Response, principal: CurrentPrincipal,
    service: Service,
) -> StockRead:  # fmt: skip
    """Set from where on the stock is low; `stock.low` is told once each time it gets there."""
    stock = await service.set_threshold(
        product_id, body.threshold, command_of(principal, None), versions=_versions(request)
    )
    response.headers["ETag"] = _etag(stock)
    return StockRead.of(stock)


def command_of(
    principal: Principal, command_id: str | None, reason: str | None = None, reference: str | None = None
) -> Command:
    """What the request asks for; with a key it may be asked for again."""
    return Command(
        id=command_id or new_id("cmd"),
        actor=principal.id,
        request_id=current_request_id(),
        repeatable=command_id is not None,
        reason=reason,
        reference=reference,
    )


def _versions(request: Request) -> Collection[int] | None:
    """Versions of the level that `If-Match` names; None where any will do."""
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    return {int(version) for weak, version in _TAG.findall(given) if not weak}


def _etag(stock: Stock) -> str:
    return f'"v{stock.level.version}-{stock.product.rev}{"s" if stock.stale else ""}"'
