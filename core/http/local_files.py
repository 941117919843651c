"""Signed links to files of the `local` storage, served by the app itself."""

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute

from core.config import Settings
from core.errors import Forbidden
from core.http.routes import PublicRoute
from core.http.streaming import stream
from core.storage.local import URL_PATH, LocalFileStore

SERVED_HEADERS = ("Content-Type", "Content-Disposition")


class LinkInvalid(Forbidden):
    title = "This link is not valid, or no longer"


def local_file_routes(settings: Settings) -> list[BaseRoute]:
    """Nothing with S3, which serves its own links."""
    if settings.storage_backend != "local":
        return []
    router = APIRouter(route_class=PublicRoute, include_in_schema=False)

    @router.get(URL_PATH + "/{key:path}")
    async def local_file(key: str, request: Request) -> Response:
        files: LocalFileStore = request.app.state.container.files()
        query = dict(request.query_params)
        if not files.url_allows(key, query):
            raise LinkInvalid
        headers = {name: query[name.lower()] for name in SERVED_HEADERS if name.lower() in query}
        return StreamingResponse(await stream(files.read(key)), headers=headers)

    return router.routes
