"""Health, readiness and metrics: what a machine asks before it sends people."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import BaseRoute

from core.http.routes import PublicRoute

log = structlog.get_logger("health")
CHECK_S = 1.5


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Check(BaseModel):
    status: Literal["ok", "timeout", "failed"]
    duration_ms: float


class Readiness(BaseModel):
    """`degraded`: something is away that people do not need for every call."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, Check]


def system_routes(name: str, version: str, *, docs: bool) -> list[BaseRoute]:
    router = APIRouter(tags=["system"], route_class=PublicRoute)

    @router.get("/health", response_model=Health)
    async def health() -> Health:
        """Whether the process lives; asks nothing else."""
        return Health()

    @router.get("/health/ready", response_model=Readiness, responses={503: {"model": Readiness}})
    async def ready(request: Request, response: Response) -> Readiness:
        """Whether it can serve: MongoDB is needed for everything, Redis and storage for some of it."""
        readiness = await _readiness(request.app.state.container)
        response.status_code = 503 if readiness.status == "unavailable" else 200
        return readiness

    @router.get("/metrics", response_class=Response)
    async def prometheus(request: Request) -> Response:
        """Metrics in Prometheus' text format."""
        request.app.state.count_places()
        exposition = await request.app.state.container.measurements().exposition()
        return Response(exposition, media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs", 307) if docs else JSONResponse({"name": name, "version": version})

    return router.routes


async def _readiness(container: Any) -> Readiness:
    redis, mongo, settings = container.redis(), container.mongo(), container.settings()
    probes: dict[str, Callable[[], Awaitable[Any]]] = {
        "mongo": lambda: mongo.admin.command("ping"),
        "redis": redis.ping,
        "broker": partial(container.broker().waiting, "documents"),
    }
    if settings.wake_ups_queue_url:
        probes["broker"] = container.wake_ups().ping
    if settings.needs_storage:
        probes["storage"] = container.files().ping
    probes |= container.neighbours()
    found = dict(zip(probes, await asyncio.gather(*map(_checked, probes.values())), strict=True))
    if found["mongo"].status != "ok" or container.stopping()():
        return Readiness(status="unavailable", checks=found)
    whole = all(check.status == "ok" for check in found.values())
    return Readiness(status="ready" if whole else "degraded", checks=found)


async def _checked(probe: Callable[[], Awaitable[Any]]) -> Check:
    loop = asyncio.get_running_loop()
    started = loop.time()
    status: Literal["ok", "timeout", "failed"] = "ok"
    try:
        async with asyncio.timeout(CHECK_S):
            await probe()
    except TimeoutError:
        status = "timeout"
    except Exception as error:
        log.warning("check_failed", error=type(error).__name__)
        status = "failed"
    return Check(status=status, duration_ms=round((loop.time() - started) * 1000, 1))
