"""What each middleware costs: the ASGI application called in this process, whole and with one of them left out."""

import asyncio
import time
from typing import Any

from fastapi import FastAPI

from app.container import Container
from app.server import create_app
from benchmarks.stack import spread
from benchmarks.stock import Owner, Stock
from core.http.ingress import Ingress
from core.http.principal import Principal
from core.http.request_context import RequestContext
from core.http.request_log import RequestLog

CALLS, AT_ONCE = 320, 16


async def middleware(container: Container, stock: Stock, rounds: int) -> None:
    """Prints microseconds of this process per `GET /documents/{id}`, on real servers but without HTTP."""
    apps = {
        "whole": _without(container),
        "no RequestContext": _without(container, RequestContext),
        "no Ingress": _without(container, Ingress),
        "neither": _without(container, RequestContext, Ingress),
    }
    found: dict[str, list[float]] = {name: [] for name in apps}
    for number in range(rounds + 1):
        for name in apps if number % 2 == 0 else reversed(apps):
            found[name].append(await _microseconds(apps[name], stock))
    print(f"\nin process, GET /documents/{{id}}, {AT_ONCE} at a time   µs CPU            saved, µs")
    for name, rounds_of in found.items():
        saved = spread((whole - mine for whole, mine in zip(found["whole"][1:], rounds_of[1:], strict=True)), 0)
        print(f"  {name:<26}{spread(rounds_of[1:], 0):>32}{saved:>22}")


def _without(container: Container, *left_out: Any) -> FastAPI:
    app = create_app(container, request_log=RequestLog("benchmark", lambda _: None))
    app.user_middleware[:] = [each for each in app.user_middleware if each.cls not in left_out]
    app.middleware_stack = FastAPI.build_middleware_stack(app)  # without the ingress FastAPI answers
    return app


async def _microseconds(app: FastAPI, stock: Stock) -> float:
    drawn = stock.draw(CALLS)
    started = time.process_time()
    for start in range(0, CALLS, AT_ONCE):
        await asyncio.gather(*(call(app, *each) for each in drawn[start : start + AT_ONCE]))
    return 1e6 * (time.process_time() - started) / CALLS


async def call(app: Any, document_id: str, owner: Owner, suffix: str = "") -> None:
    """One request. What a missing middleware would have found out is there already."""
    path = f"/documents/{document_id}{suffix}" if document_id else f"/documents{suffix}"
    path, _, query = path.partition("?")
    state = {"principal": Principal(owner.id), "path": path, "route": "/documents", "network": "127.0.0.0"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "query_string": query.encode(), "raw_path": path.encode(), "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "state": state,
        "headers": [(b"host", b"bench"), (b"authorization", f"Bearer {owner.token}".encode())],
    }  # fmt: skip
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    assert statuses == [200], statuses
