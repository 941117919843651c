"""The whole API as one Lambda function behind an HTTP API."""

import asyncio
import hmac
import os
from contextlib import AsyncExitStack
from typing import Any

from mangum import Mangum

from app.runtime import running
from app.server import from_environment
from functions.secrets import into_environment

_open = AsyncExitStack()  # for the life of this copy: an opened container that nobody holds would be closed


def _opened() -> Mangum:
    """For all requests of this copy: Mangum's own lifespan would connect anew for each."""
    into_environment()
    app = from_environment(lines_at_once=True)  # a copy stands still between requests, and may never go on
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_open.enter_async_context(running(app.state.container)))
    return Mangum(app, lifespan="off")


_app = _opened()  # when Lambda starts a copy, which it may do before there is a request


def handler(event: dict[str, Any], context: Any) -> Any:
    if event["rawPath"] in {"/metrics", "/v1/metrics"}:  # not for everybody, as in docker/nginx.conf
        return {"statusCode": 404}
    if not _is_from_the_edge(event["headers"]):
        return {"statusCode": 403}
    return _app(event, context)


def _is_from_the_edge(headers: dict[str, str]) -> bool:
    """Whoever calls the gateway itself would pass the web firewall by; only CloudFront knows the secret."""
    secret = os.environ.get("ORIGIN_SECRET", "")
    return hmac.compare_digest(headers.get("x-origin-secret", "").encode(), secret.encode()) or not secret
