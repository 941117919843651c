"""Endpoints of the scan service, for host applications."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.scans.adapter.schemas import ScanCreate, ScanOrdered
from app.scans.application.ordering import Ordering
from app.scans.contracts import ScanState
from app.scans.domain.errors import CallbackNotRegistered, ScanNotFound
from core.errors import Invalid, Malformed, Unavailable
from core.http.conditional import answer_with_etag, etag_of
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.problems import responses
from core.http.routes import PrivateTokenRoute
from core.http.wired import wired
from core.security.service_keys import ApiKeyInvalid, ApiKeyMissing, key_id
from core.security.signing import SignatureExpired, SignatureInvalid, verify
from core.sources import SourceNotAllowed

router = APIRouter(prefix="/scans", tags=["scans"], route_class=PrivateTokenRoute)

POLL_S = 1
UNKNOWN_CALLER = (ApiKeyMissing, ApiKeyInvalid)


async def _signature_fits(request: Request) -> None:
    """A signature may be left out, but not be wrong."""
    if "webhook-signature" in request.headers:
        container = request.app.state.container
        now = container.clock()().timestamp()
        verify(container.scans.signing_keys(), request.headers.raw, await request.body(), now)


Service = Annotated[Ordering, wired("scans.service")]


@router.post(
    "", status_code=202, response_model=ScanOrdered, dependencies=[Depends(_signature_fits)],
    responses=responses(
        *UNKNOWN_CALLER, SignatureInvalid, SignatureExpired, CallbackNotRegistered, SourceNotAllowed, Invalid,
        Malformed, Unavailable, *REFUSALS,
    ),
)  # fmt: skip
async def order_scan(
    body: ScanCreate, request: Request, response: Response, service: Service, once: Annotated[Once, once_in("scans")]
) -> ScanOrdered | Response:
    """Have the sources of folders listed. What is found is posted to the callback in batches of up to 1000."""

    async def order(command_id: str | None) -> ScanOrdered:
        token = request.headers["private-token"].encode()
        scan = await service.order(body.order(), command_id, key_id=key_id(token))
        url = f"/scans/{scan.scan_id}"
        response.headers["Location"] = url
        response.headers["Retry-After"] = str(POLL_S)
        return ScanOrdered(scan_id=scan.scan_id, status=scan.status, status_url=url)

    return await once(body, order)


@router.get("/{scan_id}", response_model=ScanState, responses=responses(*UNKNOWN_CALLER, ScanNotFound))
async def get_scan(scan_id: str, request: Request, response: Response, service: Service) -> Any:
    """How far a scan is."""
    state = await service.state(scan_id)
    return answer_with_etag(request, response, etag_of(*state), state)
