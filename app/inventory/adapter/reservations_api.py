"""Endpoints of reservations."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from app.inventory.adapter.api import PRODUCT, CurrentOnce, command_of
from app.inventory.adapter.schemas import ReservationCreate, ReservationRead
from app.inventory.application.reserving import ReservationService
from app.inventory.domain.errors import (
    InsufficientStock,
    ProductArchived,
    ReservationClosed,
    ReservationNotFound,
    StockBusy,
)
from app.inventory.domain.stock import Ending, Line
from core.errors import Invalid, Malformed, Unauthenticated
from core.http.conditional import answer_with_etag, etag_of
from core.http.idempotency import REFUSALS, Once
from core.http.principal import CurrentPrincipal, Principal
from core.http.problems import responses
from core.http.routes import ApiKeyRoute
from core.http.wired import wired

router = APIRouter(prefix="/inventory/reservations", tags=["inventory"], route_class=ApiKeyRoute)
ENDING = responses(Unauthenticated, ReservationNotFound, ReservationClosed, StockBusy, *REFUSALS)


Service = Annotated[ReservationService, wired("inventory.reservation_service")]


@router.post(
    "", status_code=201, response_model=ReservationRead,
    responses=responses(*PRODUCT, InsufficientStock, ProductArchived, StockBusy, Invalid, Malformed, *REFUSALS),
)  # fmt: skip
async def reserve_stock(
    body: ReservationCreate, response: Response, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> ReservationRead | Response:
    """Reserve all lines or none, until it is committed, released or over."""
    named: set[str] = set()
    for number, line in enumerate(body.lines):
        if line.product_id in named:
            raise Invalid("A product may stand once.", pointer=f"/lines/{number}/product_id", rule="repeated")
        named.add(line.product_id)

    async def reserve(command_id: str | None) -> ReservationRead:
        lines = [Line(level_id=line.product_id, quantity=line.quantity) for line in body.lines]
        command = command_of(principal, command_id, reference=body.reference)
        reservation = await service.reserve(lines, body.ttl_seconds, command)
        response.headers["Location"] = f"/inventory/reservations/{reservation.id}"
        return ReservationRead.of(reservation)

    return await once(body, reserve)


@router.get(
    "/{reservation_id}", response_model=ReservationRead, responses=responses(Unauthenticated, ReservationNotFound)
)
async def get_reservation(reservation_id: str, request: Request, response: Response, service: Service) -> Any:
    """One reservation."""
    reservation = await service.get(reservation_id)
    return answer_with_etag(
        request, response, etag_of(reservation.id, reservation.status), ReservationRead.of(reservation)
    )


@router.post("/{reservation_id}/commit", response_model=ReservationRead, responses=ENDING)
async def commit_reservation(
    reservation_id: str, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> ReservationRead | Response:
    """Take what was reserved out of stock."""
    return await _end(reservation_id, "commit", principal, service, once)


@router.post("/{reservation_id}/release", response_model=ReservationRead, responses=ENDING)
async def release_reservation(
    reservation_id: str, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> ReservationRead | Response:
    """Give back what was reserved."""
    return await _end(reservation_id, "release", principal, service, once)


async def _end(
    reservation_id: str, ending: Ending, principal: Principal, service: ReservationService, once: Once
) -> ReservationRead | Response:
    async def end(command_id: str | None) -> ReservationRead:
        return ReservationRead.of(await service.end(reservation_id, ending, command_of(principal, command_id)))

    return await once(None, end)
