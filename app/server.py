"""The HTTP application, as a table of contents."""

import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app.container import Container, build_container
from app.metrics import count_line
from app.modules import selected
from app.runtime import migrate, running
from app.saturation import count_places, told
from core import metrics
from core.config import load_settings
from core.http.docs import docs_routes
from core.http.ingress import GeneralLimit, Ingress
from core.http.local_files import local_file_routes
from core.http.openapi import Api
from core.http.problems import problem_response
from core.http.receiving import Deadlines
from core.http.request_context import RequestContext
from core.http.request_log import RequestLog
from core.http.route_table import RouteTable
from core.http.security_headers import security_headers
from core.http.system import system_routes
from core.logging import configure_logging
from core.memory import release_freed_memory
from core.telemetry import export_spans, init_sentry
from core.version import NAME, VERSION

log = structlog.get_logger("http")

YOUNG_OBJECTS = 10_000  # between two looks for garbage; a list of 50 makes 200, so the usual 700 are four requests


def from_environment(*, lines_at_once: bool = False) -> FastAPI:
    """For the server: settings from the environment, logging and error reports first.

    `lines_at_once`: the line of each request is written with its answer, not within a fifth of a second.
    """
    release_freed_memory()
    settings = load_settings()
    report = init_sentry(settings, "api")
    configure_logging("api", level=settings.log_level, fmt=settings.log_format, count=count_line, report=report)
    export_spans(settings, "api")
    if settings.is_prod and not settings.allowed_hosts:
        log.warning("any_host_is_served", setting="ALLOWED_HOSTS")
    may_wait = settings.log_format == "json" and settings.log_level in {"debug", "info"} and not lines_at_once
    return create_app(build_container(settings, "api"), request_log=RequestLog("api") if may_wait else None)


def create_app(
    container: Container, deadlines: Deadlines | None = None, request_log: RequestLog | None = None
) -> FastAPI:
    """An application on one container; tests pass their own, and shorter deadlines."""
    settings = container.settings()
    app = Api(
        title=NAME,
        version=VERSION,
        summary="Documents in folders: uploaded, processed in the background, never lost",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.container, app.state.request_log = container, request_log
    app.state.count_places = partial(count_places, app)
    for module in selected(settings).values():
        for router in module.routers():
            app.router.routes.extend(router.routes)
    app.router.routes.extend(system_routes(NAME, VERSION, docs=settings.docs_are_on))
    app.router.routes.extend(local_file_routes(settings))
    if settings.docs_are_on:
        app.router.routes.extend(docs_routes())

    app.add_middleware(
        Ingress,
        table=RouteTable(app.routes, settings),
        **_authentication(container),
        limit=GeneralLimit(container.limiter(), settings.rate_limit_per_minute),
        render=problem_response,
        max_in_flight=settings.max_in_flight,
        trusted_proxies=settings.trusted_proxies,
        allowed_hosts=settings.allowed_hosts,
        deadlines=deadlines,
    )
    if settings.cors_origins:
        app.user_middleware[:0] = [_cors(settings.cors_origins)]
    app.add_middleware(
        RequestContext,
        render=problem_response,
        observe=metrics.observe_request,
        headers=security_headers(hsts=settings.hsts),
        tell=request_log or log.info,
    )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    container = app.state.container
    async with running(container):
        if container.settings().app_env == "local":  # elsewhere it is a step of the roll-out
            await migrate(container)
        container.stopping().listen()
        # What start-up made stays: a full collection would stop the loop for 50 ms to look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)
        async with told(app):
            yield
        if app.state.request_log is not None:
            app.state.request_log.flush()


def _authentication(container: Container) -> dict[str, Any]:
    """What the ingress tells callers by; only the module of users has the keys to tokens."""
    services = {"api_key": container.api_keys(), "private_token": container.private_tokens()}
    if "users" not in selected(container.settings()):
        return {"identify": services, "confirm": None}
    people = container.users.authenticate()
    return {"identify": {**services, "bearer": people.identify}, "confirm": people.confirm}


def _cors(origins: Sequence[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "If-Match",
            "If-None-Match",
            "If-Range",
            "Idempotency-Key",
            "Range",
            "X-API-Key",
            "X-Request-ID",
        ],
        expose_headers=[
            "Content-Disposition",
            "Content-Range",
            "ETag",
            "Idempotency-Replayed",
            "Link",
            "Location",
            "Retry-After",
            "X-Request-ID",
        ],
        max_age=600,
    )
