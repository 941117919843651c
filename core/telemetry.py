"""Sentry, when a DSN is set: only what nobody expected, and no locals, bodies or secrets."""

from typing import Any

from core.config import Settings
from core.logging import redact


def init_sentry(settings: Settings, service: str) -> None:
    if settings.sentry_dsn is None:
        return
    import sentry_sdk  # patches the framework and takes 0.6 s: only where it is wanted

    from core.errors import AppError

    def scrub(event: Any, hint: dict[str, Any]) -> Any:
        expected = isinstance((hint.get("exc_info") or (None, None))[1], AppError)
        return None if expected else redact(None, "", event)

    nothing: Any = {"mode": "off"}
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.app_env,
        data_collection={
            "user_info": False,
            "cookies": nothing,
            "http_headers": {"request": nothing},
            "http_bodies": [],
            "url_query_params": nothing,
            "database_query_data": False,
            "queues": False,
            "stack_frame_variables": False,
        },
        before_send=scrub,
        server_name=service,
    )
