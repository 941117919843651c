"""Endpoints of processing: ask for it, watch it, read what came out."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from app.documents.adapter.schemas import ProcessorRead, ProcessRequest, ResultRead, StatusRead
from app.documents.application.processing import Processing
from app.documents.domain.document import DocumentView, StoredObject, view_of
from app.documents.domain.errors import (
    DocumentNotFound,
    NotProcessing,
    ProcessingFailed,
    ProcessorUnknown,
    ResultNotReady,
    ThumbnailMissing,
)
from core.errors import Invalid, Malformed, Unauthenticated, Unavailable
from core.http.conditional import answer_with_etag, etag_of, not_modified
from core.http.gate import Gate
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import PeopleRoute
from core.http.streaming import stream
from core.http.wired import wired
from core.tracing import current_request_id

router = APIRouter(tags=["processing"], route_class=PeopleRoute)

POLL_S = 1
Wait = Annotated[float, Query(ge=0, le=30, allow_inf_nan=False, description="Seconds to wait for a change")]


CurrentProcessing = Annotated[Processing, wired("documents.processing")]
DownloadGate = Annotated[Gate, wired("documents.download_gate")]


@router.get("/processors", response_model=list[ProcessorRead], responses=responses(Unauthenticated))
async def list_processors(_: CurrentPrincipal, processing: CurrentProcessing) -> list[ProcessorRead]:
    """What documents can be processed with."""
    return [ProcessorRead.of(processor) for processor in processing.processors()]


@router.post(
    "/documents/{document_id}/process", status_code=202, response_model=StatusRead,
    responses={
        200: {"model": StatusRead, "description": "It is COMPLETED already and `force` was not asked for"},
        **responses(Unauthenticated, DocumentNotFound, ProcessorUnknown, Invalid, Malformed, Unavailable, *REFUSALS),
    },
)  # fmt: skip
async def process_document(
    document_id: str, response: Response, principal: CurrentPrincipal, processing: CurrentProcessing,
    once: Annotated[Once, once_in("documents")], body: ProcessRequest | None = None,
) -> StatusRead | Response:  # fmt: skip
    """Process a document in the background. While it is being processed, asking again changes nothing."""
    asked = body or ProcessRequest()

    async def start(command_id: str | None) -> StatusRead:
        document = await processing.request(
            principal.id,
            document_id,
            processor=asked.processor,
            options=asked.options,
            force=asked.force,
            request_id=current_request_id(),
            command_id=command_id,
        )
        if document.status == "PROCESSING":
            response.headers["Retry-After"] = str(POLL_S)
        else:
            response.status_code = 200
        response.headers["Location"] = f"/documents/{document.id}/status"
        return StatusRead.of(view_of(document))

    return await once(asked, start)


@router.get(
    "/documents/{document_id}/status", response_model=StatusRead, responses=responses(Unauthenticated, DocumentNotFound)
)
async def get_status(
    document_id: str, request: Request, response: Response, principal: CurrentPrincipal, processing: CurrentProcessing,
    wait: Wait = 0,
) -> Any:  # fmt: skip
    """How far it is. `progress` never goes back within an attempt.

    With `wait` it answers when something has changed: since your `If-None-Match`, or else since you asked.
    """
    view = await processing.status(principal.id, document_id)
    if wait:
        known = request.headers.get("if-none-match") or _status_etag(view)
        if _status_etag(view) == known:
            view = await processing.changed_status(
                principal.id, document_id, wait_s=wait, is_known=lambda found: _status_etag(found) == known
            )
    if view["status"] == "PROCESSING":
        response.headers["Retry-After"] = str(POLL_S)
    return answer_with_etag(request, response, _status_etag(view), StatusRead.of(view))


@router.post(
    "/documents/{document_id}/cancel", status_code=202, response_model=StatusRead,
    responses=responses(Unauthenticated, DocumentNotFound, NotProcessing),
)  # fmt: skip
async def cancel_processing(document_id: str, principal: CurrentPrincipal, processing: CurrentProcessing) -> StatusRead:
    """Stop processing: the document is FAILED with the code `cancelled` at once."""
    return StatusRead.of(view_of(await processing.cancel(principal.id, document_id)))


@router.get(
    "/documents/{document_id}/result", response_model=ResultRead,
    responses=responses(Unauthenticated, DocumentNotFound, ResultNotReady, ProcessingFailed, Unavailable),
)  # fmt: skip
async def get_result(
    document_id: str, request: Request, response: Response, principal: CurrentPrincipal,
    processing: CurrentProcessing, gate: DownloadGate,
) -> Any:  # fmt: skip
    """What processing found."""
    known, stored = await processing.result(principal.id, document_id)
    if not_modified(request, f'"{stored.sha256}"'):
        return Response(status_code=304, headers={"ETag": f'"{stored.sha256}"'})
    response.headers["ETag"] = f'"{stored.sha256}"'
    async with gate.place(), processing.read(stored) as chunks:
        body = b"".join([chunk async for chunk in chunks])
    return ResultRead.of(orjson.loads(body), known)


@router.get(
    "/documents/{document_id}/result/text", response_class=StreamingResponse,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Pages end in form feeds"},
        **responses(Unauthenticated, DocumentNotFound, ResultNotReady, ProcessingFailed, Unavailable),
    },
)  # fmt: skip
async def get_text(
    document_id: str, request: Request, principal: CurrentPrincipal, processing: CurrentProcessing, gate: DownloadGate
) -> Response:
    """The whole text; a form feed stands between pages."""
    stored = await processing.text(principal.id, document_id)
    return await _streamed(request, processing, gate, stored, "text/plain; charset=utf-8")


@router.get(
    "/documents/{document_id}/thumbnail", response_class=StreamingResponse,
    responses={
        200: {"content": {"image/webp": {}}, "description": "The first page, 400 pixels on its longer side"},
        **responses(
            Unauthenticated, DocumentNotFound, ThumbnailMissing, ResultNotReady, ProcessingFailed, Unavailable
        ),
    },
)  # fmt: skip
async def get_thumbnail(
    document_id: str, request: Request, principal: CurrentPrincipal, processing: CurrentProcessing, gate: DownloadGate
) -> Response:
    """A small picture of the first page; PDF only."""
    stored = await processing.thumbnail(principal.id, document_id)
    return await _streamed(request, processing, gate, stored, "image/webp")


def _status_etag(view: DocumentView) -> str:
    run = view["run"]
    return etag_of(view["status"], run["attempt"], run["progress"], run["message"], run["error"])


async def _streamed(
    request: Request, processing: Processing, gate: Gate, stored: StoredObject, media_type: str
) -> Response:
    etag = f'"{stored.sha256}"'
    if not_modified(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {"ETag": etag, "Content-Length": str(stored.size)}
    return StreamingResponse(await stream(gate, processing.read(stored)), headers=headers, media_type=media_type)
