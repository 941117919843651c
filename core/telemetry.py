"""What leaves this process about itself, where an operator asks for it: errors to Sentry, spans to OpenTelemetry.

Both libraries are imported where their setting is there, and neither patches a framework: errors are those that a line
of the log tells of with a stack, spans are those of core/tracing.py.
"""

import atexit
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from core.config import ConfigError, Settings
from core.errors import AppError
from core.exits import CannotGoOn
from core.logging import REDACTED, Report, redact
from core.tracing import Span, export_to
from core.version import NAME, VERSION

# pydantic and MongoDB quote what is stored.
STORED = re.compile(r"(?<=input_value=).*?(?=, input_type=)|(?<=dup key: ).*", re.DOTALL)
EXPORT_S, FLUSH_S = 3, 2

_flushes: list[Callable[[], object]] = []


def flush() -> None:
    """Sends what waits: for processes that end without Python's own end."""
    for each in _flushes:
        each()


def init_sentry(settings: Settings, service: str) -> Report | None:
    """What to hand lines with an exception to, where a DSN is set; errors that end the process are reported too."""
    if settings.sentry_dsn is None:
        return None
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration

    def scrub(event: Any, hint: dict[str, Any]) -> Any:
        if _is_expected((hint.get("exc_info") or (None, None))[1]):
            return None
        for error in event.get("exception", {}).get("values", ()):
            error["value"] = STORED.sub(REDACTED, error.get("value") or "")
        return redact(None, "", event)

    nothing: Any = {"mode": "off"}
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.app_env,
        release=f"{NAME.lower()}@{VERSION}",
        server_name=service,
        default_integrations=False,
        integrations=[AtexitIntegration(lambda *_: None), DedupeIntegration(), ExcepthookIntegration()],
        auto_session_tracking=False,
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
    )
    sentry_sdk.get_global_scope().set_tag("service", service)
    _flushes.append(lambda: sentry_sdk.flush(FLUSH_S))

    def report(line: Mapping[str, Any]) -> None:
        told = {name: value for name, value in line.items() if name not in {"exc_info", "_record", "_from_structlog"}}
        trace: dict[str, Any] = {name: told[name] for name in ("trace_id", "span_id") if name in told}
        with sentry_sdk.new_scope() as scope:
            scope.set_context("line", told)
            if trace:
                scope.set_context("trace", trace)
            for name in ("event", "request_id", "logger"):
                if name in told:
                    scope.set_tag(name, told[name])
            sentry_sdk.capture_exception(_exception(line["exc_info"]))

    return report


def export_spans(settings: Settings, service: str) -> None:
    """Sends spans from a thread of its own, where an endpoint is set. In a worker after the fork."""
    if settings.otel_exporter_otlp_endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=EXPORT_S))
    resource = Resource.create(
        {
            "service.namespace": NAME.lower(),
            "service.name": f"{NAME.lower()}-{service}",
            "service.version": VERSION,
            "deployment.environment.name": settings.app_env,
        }
    )
    scope, sampled = InstrumentationScope(NAME.lower(), VERSION), TraceFlags(TraceFlags.SAMPLED)

    def export(span: Span) -> None:
        ended_ns, trace_id = time.time_ns(), int(span.trace.trace_id, 16)
        state = TraceState.from_header([span.trace.state])
        parent_id = int(span.trace.parent_id or "0", 16)
        ours = SpanContext(trace_id, int(span.trace.span_id, 16), False, sampled, state)
        parent = SpanContext(trace_id, parent_id, span.kind != "CLIENT", sampled) if parent_id else None
        processor.on_end(
            ReadableSpan(
                span.name,
                ours,
                parent,
                resource,
                span.attributes,
                kind=SpanKind[span.kind],
                status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
                start_time=ended_ns - round(span.seconds * 1e9),
                end_time=ended_ns,
                instrumentation_scope=scope,
            )
        )

    export_to(export, settings.otel_traces_sampler_arg)
    _flushes.append(processor.force_flush)
    atexit.register(processor.shutdown)


def _exception(exc_info: Any) -> BaseException | None:
    """Of whatever a line gives."""
    if isinstance(exc_info, BaseException):
        return exc_info
    return exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]


def _is_expected(error: BaseException | None) -> bool:
    """Answers of ours, what an operator is told in one line, and what we depend on being away: that has alerts."""
    from celery.beat import SchedulingError
    from kombu.exceptions import OperationalError
    from pymongo.errors import ConnectionFailure
    from redis.exceptions import ConnectionError as RedisAway
    from redis.exceptions import TimeoutError as RedisLate

    if isinstance(error, SchedulingError):  # beat could not send a wake-up
        error = error.__context__
    ours = AppError | ConfigError | CannotGoOn
    return isinstance(error, ours | OperationalError | ConnectionFailure | RedisAway | RedisLate)
