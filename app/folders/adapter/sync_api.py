"""Endpoints of syncs: ask for one, watch it, and take what the scan service reports."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.folders.adapter.callbacks import MESSAGES, ScanCallbacks
from app.folders.adapter.schemas import SyncCreate, SyncRead
from app.folders.application.syncs import SyncService
from app.folders.domain.errors import FolderNotFound, NoScanService, NoSource, SyncNotFound
from core.config import Settings
from core.errors import Invalid, Malformed, TooLarge, Unauthenticated, Unavailable
from core.http.conditional import answer_with_etag, etag_of
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import PeopleRoute, PrivateTokenRoute
from core.http.wired import wired
from core.security.service_keys import ApiKeyInvalid, ApiKeyMissing
from core.security.signing import SignatureExpired, SignatureInvalid
from core.tracing import current_request_id

POLL_S = 2
CALLBACK_BYTES = 4 * 1024 * 1024


class CallbackRoute(PrivateTokenRoute):
    @classmethod
    def body_limit(cls, settings: Settings) -> int:
        return CALLBACK_BYTES


router = APIRouter(prefix="/folders", tags=["folders"], route_class=PeopleRoute)
callbacks = APIRouter(prefix="/callbacks", tags=["scans"], route_class=CallbackRoute)


class Received(BaseModel):
    received: bool = True
    duplicate: bool


Service = Annotated[SyncService, wired("folders.syncs")]


def _schema(message: type[BaseModel]) -> dict[str, Any]:
    """With what it holds written out, since nothing else of the document knows it."""
    schema = message.model_json_schema()
    for name, inner in schema.pop("$defs", {}).items():
        for field in schema["properties"].values():
            if field.get("items") == {"$ref": f"#/$defs/{name}"}:
                field["items"] = inner
    return schema


_CALLBACK_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"oneOf": [_schema(kind) for kind in MESSAGES.values()]}}},
    }
}


@router.post(
    "/sync", status_code=202, response_model=SyncRead,
    responses=responses(Unauthenticated, FolderNotFound, NoSource, Invalid, Malformed, NoScanService, *REFUSALS),
)  # fmt: skip
async def start_sync(
    response: Response,
    principal: CurrentPrincipal,
    service: Service,
    once: Annotated[Once, once_in("folders")],
    body: SyncCreate | None = None,
) -> SyncRead | Response:
    """Make documents of what lies in the sources of folders, in the background."""
    service.demand_scans()  # before any key is taken
    asked = body or SyncCreate()

    async def start(command_id: str | None) -> SyncRead:
        sync = await service.start(
            principal.id, asked.folder_ids, request_id=current_request_id(), command_id=command_id
        )
        response.headers["Location"] = f"/folders/syncs/{sync.id}"
        response.headers["Retry-After"] = str(POLL_S)
        return SyncRead.of(*await service.get(principal.id, sync.id))

    return await once(asked, start)


@router.get("/syncs/{sync_id}", response_model=SyncRead, responses=responses(Unauthenticated, SyncNotFound))
async def get_sync(
    sync_id: str, request: Request, response: Response, principal: CurrentPrincipal, service: Service
) -> Any:
    """How far it is. Counts grow while it runs, and are final when it has ended."""
    sync, counts = await service.get(principal.id, sync_id)
    if sync.is_open:
        response.headers["Retry-After"] = str(POLL_S)
    read = SyncRead.of(sync, counts)
    return answer_with_etag(request, response, etag_of(read.model_dump_json()), read)


@callbacks.post(
    "/scans", response_model=Received, openapi_extra=_CALLBACK_BODY,
    responses=responses(
        ApiKeyMissing, ApiKeyInvalid, SignatureInvalid, SignatureExpired, SyncNotFound, TooLarge, Invalid, Malformed,
        Unavailable,
    ),
)  # fmt: skip
async def receive_scan(request: Request, receiver: Annotated[ScanCallbacks, wired("folders.callbacks")]) -> Received:
    """For the scan service: a batch of documents, or word that all is listed. In any order, and as often as need be."""
    return Received(duplicate=await receiver.receive(request.headers.raw, await request.body()))
