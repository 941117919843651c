"""Signed links to files of the `local` storage, served by the app itself."""

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute

from core.config import Settings
from core.errors import Forbidden
from core.http.gate import DOWNLOAD_WAIT_S, DOWNLOADS, Gate
from core.http.routes import PublicRoute
from core.http.streaming import stream
from core.storage.base import FileMissing
from core.storage.local import URL_PATH, LocalFileStore

SERVED_HEADERS = ("Content-Type", "Content-Disposition")


class LinkInvalid(Forbidden):
    title = "This link is not valid, or no longer"


class LinkedPutRoute(PublicRoute):
    """Takes as much as one file may have; its link says who may send it, and how long it is."""

    takes_files = True

    @classmethod
    def body_limit(cls, settings: Settings) -> int:
        return settings.max_upload_bytes


def local_file_routes(settings: Settings) -> list[BaseRoute]:
    """Nothing with S3, which serves its own links."""
    if settings.storage_backend != "local":
        return []
    router = APIRouter(route_class=PublicRoute, include_in_schema=False)
    gate = Gate(DOWNLOADS, DOWNLOAD_WAIT_S)

    @router.get(URL_PATH + "/{key:path}")
    async def local_file(key: str, request: Request) -> Response:
        files: LocalFileStore = request.app.state.container.files()
        query = dict(request.query_params)
        if not files.url_allows(key, query):
            raise LinkInvalid
        headers = {name: query[name.lower()] for name in SERVED_HEADERS if name.lower() in query}
        try:
            chunks = await stream(gate, files.read(key))
        except FileMissing as cause:
            raise LinkInvalid from cause
        return StreamingResponse(chunks, headers=headers)

    writing = APIRouter(route_class=LinkedPutRoute, include_in_schema=False)

    @writing.put(URL_PATH + "/{key:path}")
    async def receive_file(key: str, request: Request) -> Response:
        files: LocalFileStore = request.app.state.container.files()
        query, sent = dict(request.query_params), request.headers
        as_signed = all(sent.get(name) == query.get(name) for name in ("content-length", "content-type"))
        if not files.url_allows(key, query, "PUT") or not as_signed:
            raise LinkInvalid
        return Response(headers={"ETag": f'"{await files.receive(key, request.stream())}"'})

    return [*router.routes, *writing.routes]
