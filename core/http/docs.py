"""/docs and /redoc without a CDN and without inline scripts: assets come from the installed fastapi-offline."""

from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"
)
ASSETS = "/docs-assets"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Dossier API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{head}</head>
<body><div id="ui"></div>{scripts}</body></html>"""
_SWAGGER_START = """window.onload = () => SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#ui", deepLinking: true, persistAuthorization: true,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});"""
_REDOC_START = 'Redoc.init("/openapi.json", {}, document.getElementById("ui"));'


def docs_routes() -> list[BaseRoute]:
    """Both pages, their two start scripts and the assets."""
    spec = find_spec("fastapi_offline")
    assert spec is not None, "fastapi-offline is a requirement"
    assert spec.origin is not None
    swagger = _page(
        f'<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">', "swagger-ui-bundle.js", "/docs/swagger.js"
    )
    redoc = _page("", "redoc.standalone.js", "/docs/redoc.js")
    return [
        Route("/docs", _answer(swagger, "text/html"), include_in_schema=False),
        Route("/redoc", _answer(redoc, "text/html"), include_in_schema=False),
        Route("/docs/swagger.js", _answer(_SWAGGER_START, "text/javascript"), include_in_schema=False),
        Route("/docs/redoc.js", _answer(_REDOC_START, "text/javascript"), include_in_schema=False),
        Route("/openapi.json", _openapi, include_in_schema=False),
        Mount(ASSETS, StaticFiles(directory=Path(spec.origin).parent / "static")),
    ]


def _page(head: str, *scripts: str) -> str:
    sources = [script if script.startswith("/") else f"{ASSETS}/{script}" for script in scripts]
    return _PAGE.format(head=head, scripts="".join(f'<script src="{source}"></script>' for source in sources))


def _answer(text: str, media_type: str):  # type: ignore[no-untyped-def]
    async def endpoint(_: Request) -> Response:
        return HTMLResponse(text, media_type=media_type, headers={"Content-Security-Policy": CSP})

    return endpoint


async def _openapi(request: Request) -> Response:
    return JSONResponse(request.app.openapi())
