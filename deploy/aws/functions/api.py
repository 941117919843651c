"""The whole API as one Lambda function behind an HTTP API."""

import asyncio
from functools import cache
from typing import Any

from mangum import Mangum

from app.container import build_container
from app.runtime import running
from app.server import create_app
from core.config import load_settings
from core.logging import configure_logging
from functions.secrets import into_environment


@cache
def adapter() -> Mangum:
    """Opened once for the life of this copy: Mangum's own lifespan would connect anew for each request."""
    into_environment()
    settings = load_settings()
    configure_logging("api", level=settings.log_level, fmt="json")
    container = build_container(settings, "api")
    app = create_app(container)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(running(container).__aenter__())
    return Mangum(app, lifespan="off")


def handler(event: Any, context: Any) -> Any:
    return adapter()(event, context)
