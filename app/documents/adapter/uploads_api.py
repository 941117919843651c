"""Endpoints of uploads that go straight to storage: begin, look, complete, abort."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.documents.adapter.api import document_etag
from app.documents.adapter.schemas import DocumentRead
from app.documents.adapter.upload import ExternalId, FolderId, Metadata
from app.documents.application.uploads import Announced, Progress, Uploads
from app.documents.domain.errors import (
    DocumentNotFound,
    FileCorrupt,
    FileEncrypted,
    FileNameInvalid,
    MacroNotAllowed,
    UnsupportedFileType,
    UploadIncomplete,
    UploadNotFound,
)
from core.errors import Invalid, Malformed, Overloaded, TooLarge, Unauthenticated, Unavailable
from core.http.gate import Gate
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import Body, PeopleRoute
from core.http.wired import wired


class CheckingRoute(PeopleRoute):
    """Its answer takes as long as the file is large."""

    takes_files = True


class PartUrl(BaseModel):
    part_number: int
    url: str


class PartRead(BaseModel):
    part_number: int
    size: int = Field(description="Bytes")
    etag: str


class UploadBegin(Body):
    filename: str = Field(max_length=1024, examples=["scan.pdf"])
    size: int = Field(ge=1, le=2**53, description="Bytes, exactly")
    content_type: str = Field(max_length=200, examples=["application/pdf"])
    folder_id: FolderId | None = None
    external_id: ExternalId | None = None
    metadata: Metadata = Field(default_factory=dict)


class SentPart(Body):
    part_number: int = Field(ge=1, le=10_000)
    etag: str = Field(max_length=200)


class UploadComplete(Body):
    parts: Annotated[list[SentPart], Field(max_length=1000)] | None = Field(
        default=None, description="What was sent, to be compared with what has arrived"
    )


class UploadRead(BaseModel):
    upload_id: str = Field(examples=["upl_01kd4v8w3zj5n9q2r7t6x1y0ab"])
    document_id: str = Field(description="The id that the document will have")
    method: Literal["PUT"] = "PUT"
    url: str | None = Field(description="Where to send the whole file; null where it is sent in parts")
    headers: dict[str, str] = Field(description="What to send with it, exactly")
    parts: list[PartUrl] | None = Field(description="Where to send each part, in any order, again where need be")
    part_size: int | None = Field(description="Bytes of each part but the last")
    expires_at: datetime = Field(description="The end of the upload. Links live 15 minutes; a GET makes fresh ones.")

    @classmethod
    def of(cls, progress: Progress) -> "UploadRead":
        upload, urls = progress.upload, _urls(progress)
        in_parts = upload.part_size is not None
        headers = {"Content-Type": upload.content_type, "Content-Length": str(upload.size)}
        return cls(
            upload_id=upload.id,
            document_id=upload.document_id,
            url=None if in_parts else urls[0].url,
            headers={} if in_parts else headers,
            parts=urls if in_parts else None,
            part_size=upload.part_size,
            expires_at=upload.expires_at,
        )


class UploadState(BaseModel):
    upload_id: str
    document_id: str
    status: Literal["open", "completed", "expired"]
    parts: list[PartRead] = Field(description="What has arrived; a file that is sent whole is part 1")
    urls: list[PartUrl] = Field(description="Fresh links for what has not")
    expires_at: datetime

    @classmethod
    def of(cls, progress: Progress) -> "UploadState":
        upload = progress.upload
        return cls(
            upload_id=upload.id,
            document_id=upload.document_id,
            status=progress.status,
            parts=[PartRead(part_number=part.number, size=part.size, etag=part.etag) for part in progress.parts],
            urls=_urls(progress),
            expires_at=upload.expires_at,
        )


router = APIRouter(tags=["documents"], route_class=PeopleRoute)
completing = APIRouter(tags=["documents"], route_class=CheckingRoute)


CurrentUploads = Annotated[Uploads, wired("documents.uploads")]


@router.post(
    "/documents/uploads", status_code=201, response_model=UploadRead,
    responses=responses(
        Unauthenticated, DocumentNotFound, TooLarge, UnsupportedFileType, FileNameInvalid, Invalid, Malformed,
        Unavailable, Overloaded, *REFUSALS,
    ),
)  # fmt: skip
async def begin_upload(
    body: UploadBegin, response: Response, principal: CurrentPrincipal, uploads: CurrentUploads,
    gate: Annotated[Gate, wired("documents.begin_gate")], once: Annotated[Once, once_in("documents")],
) -> UploadRead | Response:  # fmt: skip
    """Get links to put a file straight into storage: in one piece, or in parts, which may be repeated and resumed."""

    async def begin(command_id: str | None) -> UploadRead:
        progress = await uploads.begin(principal.id, Announced(**body.model_dump()), command_id)
        response.headers["Location"] = f"/documents/uploads/{progress.upload.id}"
        response.headers["Cache-Control"] = "no-store"
        return UploadRead.of(progress)

    async with gate.place():
        return await once(body, begin)


@router.get(
    "/documents/uploads/{upload_id}", response_model=UploadState,
    responses=responses(Unauthenticated, UploadNotFound, Unavailable),
)  # fmt: skip
async def get_upload(
    upload_id: str, response: Response, principal: CurrentPrincipal, uploads: CurrentUploads
) -> UploadState:
    """What has arrived, and fresh links for the rest: after a crash go on where you were."""
    response.headers["Cache-Control"] = "no-store"
    return UploadState.of(await uploads.look(principal.id, upload_id))


@completing.post(
    "/documents/uploads/{upload_id}/complete", status_code=201, response_model=DocumentRead,
    responses=responses(
        Unauthenticated, UploadNotFound, UploadIncomplete, UnsupportedFileType, FileCorrupt, FileEncrypted,
        MacroNotAllowed, Invalid, Malformed, Unavailable, Overloaded, *REFUSALS,
    ),
)  # fmt: skip
async def complete_upload(
    upload_id: str, response: Response, principal: CurrentPrincipal, uploads: CurrentUploads,
    gate: Annotated[Gate, wired("documents.complete_gate")], once: Annotated[Once, once_in("documents")],
    body: UploadComplete | None = None,
) -> DocumentRead | Response:  # fmt: skip
    """All bytes are there: look at them, and make the document. Repeating it gives the same document."""
    parts = None if body is None else body.parts
    sent = None if parts is None else {part.part_number: part.etag.strip('"') for part in parts}

    async def complete(_: str | None) -> DocumentRead:
        document = await uploads.complete(principal.id, upload_id, sent)
        response.headers["Location"] = f"/documents/{document.id}"
        response.headers["ETag"] = document_etag(document)
        return DocumentRead.of(document)

    async with gate.place():
        return await once(body or UploadComplete(), complete)


@router.delete("/documents/uploads/{upload_id}", status_code=204, responses=responses(Unauthenticated, UploadNotFound))
async def abort_upload(upload_id: str, principal: CurrentPrincipal, uploads: CurrentUploads) -> None:
    """Forget an upload and what has arrived of it. One that is completed stays: delete its document."""
    await uploads.abort(principal.id, upload_id)


def _urls(progress: Progress) -> list[PartUrl]:
    return [PartUrl(part_number=number, url=url) for number, url in progress.urls.items()]
