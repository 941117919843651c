"""How much is taken of what an API process has only so many of: read when asked, so that requests pay nothing."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from pymongo import AsyncMongoClient

from app.container import Container
from core import metrics
from core.http.ingress import Ingress

TELL_S = 5.0


def count_places(app: FastAPI) -> None:
    """For /metrics."""
    container: Container = app.state.container
    found = {"requests": _requests(app), "redis": _redis(container.redis())}
    if isinstance(client := container.mongo(), AsyncMongoClient):  # no twin
        found["mongo"] = _mongo(client)
    if container.settings().has_any("documents"):
        gates = {"uploads": container.documents.upload_gate(), "downloads": container.documents.download_gate()}
        found |= {name: (gate.taken, gate.places) for name, gate in gates.items()}
    metrics.observe_places(found)


@asynccontextmanager
async def told(app: FastAPI) -> AsyncIterator[None]:
    """While it is open, whichever process behind this port is asked for metrics knows of this one."""

    async def tell() -> None:
        while True:
            count_places(app)
            await asyncio.sleep(TELL_S)

    telling = asyncio.create_task(tell()) if metrics.is_one_of_many() else None
    try:
        yield
    finally:
        if telling is not None:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling


def _requests(app: FastAPI) -> tuple[float, float]:
    layer: Any = app.middleware_stack
    while not isinstance(layer, Ingress):
        layer = layer.app
    return layer.places.taken, layer.places.working


def _mongo(client: "AsyncMongoClient[Any]") -> tuple[float, float]:
    """The driver tells of its pools by an event per operation, or here."""
    topology = client._topology
    servers = topology._servers.values() if topology is not None else ()
    taken = sum(server.pool.active_sockets for server in servers)
    return taken, client.options.pool_options.max_pool_size or math.inf


def _redis(client: Any) -> tuple[float, float]:
    pool = getattr(client, "connection_pool", None)
    return (len(pool._in_use_connections), pool.max_connections) if pool is not None else (0, 0)
