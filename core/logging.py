"""One JSON object per line on stdout, for our own lines and those of every library."""

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

from core.tracing import add_ids

# Not `code`: it says why something failed. We take no part in flows that call a secret so.
SECRET_KEYS = frozenset(
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "private-token",
        "x-api-key",
        "webhook-signature",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-credential",
        "password",
        "current_password",
        "new_password",
        "secret",
        "client_secret",
        "token",
        "access_token",
        "refresh_token",
        "id_token",
        "api_key",
        "private_key",
        "signature",
        "otp",
        "dsn",
        "mongo_url",
        "redis_url",
        "sentry_dsn",
        "aws_secret_access_key",
    ]
)
SECRET_PATTERNS = re.compile(
    r"eyJ[\w-]+\.[\w-]+\.[\w-]+"  # a JWT
    r"|whsec_[\w+/=-]+|AKIA[0-9A-Z]{16}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password of a URL
    r"|X-Amz-(?:Signature|Credential|Security-Token)=[^&\s\"']+"
    r"|-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----",
    re.DOTALL,
)
REDACTED = "[redacted]"


Count = Callable[[str, Mapping[str, Any]], None]
Report = Callable[[Mapping[str, Any]], None]


def configure_logging(
    service: str, *, level: str = "info", fmt: str = "json", count: Count | None = None, report: Report | None = None
) -> None:
    """Routes structlog and the standard library to stdout; `service` is api, worker, beat, control or local.

    `count` gets level and fields of each of our own lines, also of those that `level` hides. `report` gets the fields
    of errors with an exception, of libraries too.
    """

    def add_service(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    def add_to_metrics(_: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if count is not None:
            count(name, event)
        return event

    def reported(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if report is not None and event.get("exc_info") and event["level"] in {"error", "critical"}:
            report(event)
        return event

    shared: list[Processor] = [
        add_ids,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", key="ts"),
        add_service,
        reported,
        structlog.processors.format_exc_info,
        redact,
    ]
    console = structlog.dev.ConsoleRenderer(timestamp_key="ts")
    render: Processor = console if fmt == "console" else structlog.processors.JSONRenderer(_dumps)
    structlog.configure(
        processors=[
            add_to_metrics,
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their INFO is noise for an operator and their DEBUG prints headers.
    for name in (
        "botocore",
        "boto3",
        "urllib3",
        "httpcore",
        "httpx",
        "pymongo",
        "asyncio",
        "uvicorn.access",
        "amqp",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a line for every odd byte of a form
    for name in ("uvicorn", "uvicorn.error", "celery", "kombu"):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [], True


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces secrets by key, at any depth, and by shape, in every text."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any) -> Any:
    if key.lower() in SECRET_KEYS:
        return REDACTED
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {name: _clean(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", item) for item in value]
    return value


def without_secrets(text: str) -> str:
    return SECRET_PATTERNS.sub(REDACTED, text)


def _foreign(logger: Any, _: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A library's sentence becomes `message`; `event` stays a closed set of our words."""
    record: logging.LogRecord = event["_record"]
    return {**event, "event": "library", "logger": record.name, "message": event["event"]}


def _dumps(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
