"""Endpoints of documents: upload, list, read, change, download, delete. Processing: processing_api.py."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from app.documents.adapter.schemas import ContentUrl, DocumentRead, DocumentUpdate
from app.documents.adapter.upload import FORM_OVERHEAD_BYTES, UploadFields, contents, received
from app.documents.application.library import Library
from app.documents.domain.document import Document, Status
from app.documents.domain.errors import (
    ArchiveBomb,
    DocumentNotFound,
    DuplicateDocument,
    FileCorrupt,
    FileEncrypted,
    FileNameInvalid,
    MacroNotAllowed,
    UnsupportedFileType,
)
from app.documents.domain.ports import Filters
from core.clock import Clock
from core.config import Settings
from core.errors import (
    CursorInvalid,
    Invalid,
    Malformed,
    Overloaded,
    PreconditionFailed,
    RangeUnsatisfiable,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from core.http.conditional import answer_with_etag, byte_range, demand_match, etag_of, not_modified
from core.http.gate import Gate
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.pagination import CurrentCursors, CursorText, Limit, ListRead, encoded_page, position_of
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import PeopleRoute
from core.http.streaming import stream
from core.http.wired import wired

CONTENT_URL_S = 300
CONTENT_CSP = "default-src 'none'; sandbox"


class UploadRoute(PeopleRoute):
    """Takes as much as the settings allow one file, and what the form adds."""

    takes_files = True

    @classmethod
    def body_limit(cls, settings: Settings) -> int:
        return settings.max_upload_bytes + FORM_OVERHEAD_BYTES


router = APIRouter(tags=["documents"], route_class=PeopleRoute)
uploads = APIRouter(tags=["documents"], route_class=UploadRoute)


async def _filters(
    status: Annotated[Status | None, Query()] = None,
    folder_id: Annotated[str | None, Query(max_length=64)] = None,
    external_id: Annotated[str | None, Query(max_length=200)] = None,
    filename: Annotated[str | None, Query(max_length=255)] = None,
) -> Filters:
    return Filters(status, folder_id, external_id, filename)


CurrentLibrary = Annotated[Library, wired("documents.library")]
DownloadGate = Annotated[Gate, wired("documents.download_gate")]
ListFilters = Annotated[Filters, Depends(_filters)]

_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {**UploadFields.model_json_schema(), "required": ["file"]}}},
    }
}


@uploads.post(
    "/documents/upload", status_code=201, response_model=DocumentRead, openapi_extra=_UPLOAD_BODY,
    responses={
        200: {"model": DocumentRead, "description": "`on_duplicate=return`: the document you already have"},
        **responses(
            Unauthenticated, DocumentNotFound, DuplicateDocument, TooLarge, UnsupportedFileType, FileCorrupt,
            FileNameInvalid, FileEncrypted, MacroNotAllowed, ArchiveBomb, Invalid, Malformed, Unavailable, Overloaded,
            *REFUSALS,
        ),
    },
)  # fmt: skip
async def upload_document(
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    library: CurrentLibrary,
    gate: Annotated[Gate, wired("documents.upload_gate")],
    settings: Annotated[Settings, wired("settings")],
    once: Annotated[Once, once_in("documents")],
) -> DocumentRead | Response:
    """Upload a PDF or DOCX file as multipart form. What it is, its structure decides, not its name."""

    async def create(command_id: str | None) -> DocumentRead:
        document, is_new = await library.upload(principal.id, upload, command_id)
        response.status_code = 201 if is_new else 200
        response.headers["Location"] = f"/documents/{document.id}"
        response.headers["ETag"] = document_etag(document)
        return DocumentRead.of(document)

    async with received(request, gate, settings.max_upload_bytes) as upload:
        return await once(contents(upload) if once.key else None, create)


@router.get(
    "/documents", response_model=ListRead[DocumentRead],
    responses=responses(Unauthenticated, CursorInvalid, Invalid),
)  # fmt: skip
async def list_documents(
    request: Request, principal: CurrentPrincipal, library: CurrentLibrary,
    cursors: CurrentCursors, filters: ListFilters, limit: Limit = 50, cursor: CursorText = None,
) -> Response:  # fmt: skip
    """Your documents, newest first. Filters are exact and all of them must fit."""
    after = position_of(request, cursors, cursor, vars(filters))
    page = await library.list(principal.id, filters, after, limit)
    return encoded_page(request, cursors, page, vars(filters), limit)


@router.get(
    "/folders/{folder_id}/documents", response_model=ListRead[DocumentRead], tags=["folders"],
    responses=responses(Unauthenticated, DocumentNotFound, CursorInvalid, Invalid),
)  # fmt: skip
async def list_folder_documents(
    folder_id: str, request: Request, principal: CurrentPrincipal, library: CurrentLibrary,
    cursors: CurrentCursors, limit: Limit = 50, cursor: CursorText = None,
) -> Response:  # fmt: skip
    """The documents of one folder, newest first."""
    after = position_of(request, cursors, cursor, {})
    page = await library.list_folder(principal.id, folder_id, after, limit)
    return encoded_page(request, cursors, page, {}, limit)


@router.get(
    "/documents/{document_id}",
    response_model=DocumentRead,
    responses=responses(Unauthenticated, DocumentNotFound),
)
async def get_document(
    document_id: str,
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    library: CurrentLibrary,
) -> Any:
    """One document."""
    view = await library.view(principal.id, document_id)
    etag = etag_of(view["document_id"], view["version"])
    return answer_with_etag(request, response, etag, DocumentRead.model_validate(view))


@router.patch(
    "/documents/{document_id}", response_model=DocumentRead,
    responses=responses(
        Unauthenticated, DocumentNotFound, PreconditionFailed, FileNameInvalid, UnsupportedFileType, Invalid, Malformed
    ),
)  # fmt: skip
async def change_document(
    document_id: str,
    body: DocumentUpdate,
    request: Request,
    response: Response,
    principal: CurrentPrincipal,
    library: CurrentLibrary,
) -> DocumentRead:
    """Change name, folder, external id or metadata. With `If-Match` only where it has not changed since you read it."""
    demand: Callable[[Document], None] = lambda found: demand_match(request, document_etag(found))  # noqa: E731
    document = await library.change(principal.id, document_id, body.fields(), demand)
    response.headers["ETag"] = document_etag(document)
    return DocumentRead.of(document)


@router.delete(
    "/documents/{document_id}", status_code=204,
    responses=responses(Unauthenticated, DocumentNotFound, PreconditionFailed),
)  # fmt: skip
async def delete_document(
    document_id: str, request: Request, principal: CurrentPrincipal, library: CurrentLibrary
) -> None:
    """Delete a document with its results. A running attempt is cancelled; the bytes are removed shortly after.

    With `If-Match` only where it has not changed since you read it.
    """
    demand: Callable[[Document], None] = lambda found: demand_match(request, document_etag(found))  # noqa: E731
    await library.remove(principal.id, document_id, demand if "if-match" in request.headers else None)


@router.get(
    "/documents/{document_id}/content", response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "The part that `Range` asked for"},
        **responses(Unauthenticated, DocumentNotFound, RangeUnsatisfiable, Unavailable, Overloaded),
    },
)  # fmt: skip
async def download_document(
    document_id: str, request: Request, principal: CurrentPrincipal, library: CurrentLibrary, gate: DownloadGate
) -> Response:
    """The original bytes, as an attachment. One byte range per request."""
    document = await library.get(principal.id, document_id)
    etag = f'"{document.sha256}"' if document.sha256 else etag_of(document.id, document.version)
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-store"}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    asked = byte_range(request, document.size, etag)
    start, end = asked or (0, document.size - 1)
    headers |= {
        "Content-Length": str(end - start + 1),
        "Content-Disposition": _attachment(document.filename),
        "Content-Security-Policy": CONTENT_CSP,
    }
    if asked:
        headers["Content-Range"] = f"bytes {start}-{end}/{document.size}"
    chunks = await stream(gate, library.read(document, start, end))
    return StreamingResponse(chunks, 206 if asked else 200, headers, document.content_type)


@router.get(
    "/documents/{document_id}/content-url", response_model=ContentUrl,
    responses=responses(Unauthenticated, DocumentNotFound),
)  # fmt: skip
async def content_url(
    document_id: str,
    principal: CurrentPrincipal,
    library: CurrentLibrary,
    clock: Annotated[Clock, wired("clock")],
) -> ContentUrl:
    """A link to the original bytes that works without signing in, for five minutes."""
    document = await library.get(principal.id, document_id)
    headers = {"Content-Type": document.content_type, "Content-Disposition": _attachment(document.filename)}
    expires_at = clock() + timedelta(seconds=CONTENT_URL_S)
    return ContentUrl(url=await library.url(document, expires_s=CONTENT_URL_S, headers=headers), expires_at=expires_at)


def document_etag(document: Document) -> str:
    return etag_of(document.id, document.version)


def _attachment(filename: str) -> str:
    """Content-Disposition by RFC 6266: a plain name for old clients, the real one for all others."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
