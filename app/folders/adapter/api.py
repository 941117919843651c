"""Endpoints of folders."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from app.folders.adapter.schemas import FolderCreate, FolderRead, FolderUpdate
from app.folders.application.service import FolderService
from app.folders.domain.errors import FolderExists, FolderNotEmpty, FolderNotFound
from app.folders.domain.folder import Folder
from core.errors import CursorInvalid, Invalid, Malformed, PreconditionFailed, Unauthenticated
from core.http.conditional import answer_with_etag, demand_match, etag_of
from core.http.idempotency import REFUSALS, Once, once_in
from core.http.pagination import CurrentCursors, CursorText, Limit, ListRead, list_page, position_of
from core.http.principal import CurrentPrincipal
from core.http.problems import responses
from core.http.routes import PeopleRoute
from core.http.wired import wired
from core.sources import SourceNotAllowed

router = APIRouter(prefix="/folders", tags=["folders"], route_class=PeopleRoute)


Service = Annotated[FolderService, wired("folders.service")]
CurrentOnce = Annotated[Once, once_in("folders")]


@router.post(
    "", status_code=201, response_model=FolderRead,
    responses=responses(Unauthenticated, FolderExists, SourceNotAllowed, Invalid, Malformed, *REFUSALS),
)  # fmt: skip
async def create_folder(
    body: FolderCreate, response: Response, principal: CurrentPrincipal, service: Service, once: CurrentOnce
) -> FolderRead | Response:
    """Create a folder; its name is unique among your folders."""

    async def create(command_id: str | None) -> FolderRead:
        folder = await service.create(principal.id, name=body.name, source=body.source, command_id=command_id)
        response.headers["Location"] = f"/folders/{folder.id}"
        response.headers["ETag"] = _etag(folder)
        return FolderRead.of(folder)

    return await once(body, create)


@router.get("", response_model=ListRead[FolderRead], responses=responses(Unauthenticated, CursorInvalid, Invalid))
async def list_folders(
    request: Request, response: Response, principal: CurrentPrincipal, service: Service, cursors: CurrentCursors,
    limit: Limit = 50, cursor: CursorText = None,
) -> ListRead[FolderRead]:  # fmt: skip
    """Your folders, newest first."""
    after = position_of(request, cursors, cursor, {})
    page = await service.list(principal.id, after, limit)
    return list_page(request, response, cursors, page, FolderRead.of, {}, limit)


@router.get("/{folder_id}", response_model=FolderRead, responses=responses(Unauthenticated, FolderNotFound))
async def get_folder(
    folder_id: str, request: Request, response: Response, principal: CurrentPrincipal, service: Service
) -> Any:
    """One folder."""
    folder = await service.get(principal.id, folder_id)
    return answer_with_etag(request, response, _etag(folder), FolderRead.of(folder))


@router.patch(
    "/{folder_id}", response_model=FolderRead,
    responses=responses(
        Unauthenticated, FolderNotFound, FolderExists, PreconditionFailed, Invalid, Malformed
    ),
)  # fmt: skip
async def rename_folder(
    folder_id: str, body: FolderUpdate, request: Request, response: Response, principal: CurrentPrincipal,
    service: Service,
) -> FolderRead:  # fmt: skip
    """Rename a folder. With `If-Match` only where it has not changed since you read it."""
    folder = await service.rename(
        principal.id, folder_id, name=body.name, demand=lambda found: demand_match(request, _etag(found))
    )
    response.headers["ETag"] = _etag(folder)
    return FolderRead.of(folder)


@router.delete(
    "/{folder_id}", status_code=204,
    responses=responses(Unauthenticated, FolderNotFound, FolderNotEmpty, PreconditionFailed),
)  # fmt: skip
async def delete_folder(folder_id: str, request: Request, principal: CurrentPrincipal, service: Service) -> None:
    """Delete an empty folder. With `If-Match` only where it has not changed since you read it."""
    await service.remove(principal.id, folder_id, demand=lambda found: demand_match(request, _etag(found)))


def _etag(folder: Folder) -> str:
    return etag_of(folder.id, folder.version)
