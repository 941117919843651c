"""One request id and one trace from a request through Celery to a receiver, in the logs and at a collector of spans."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from secrets import token_hex
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.clients import Person
from tests.corpus import pdfs
from tests.integration.collecting import Collector, Posted, collecting
from tests.integration.running import ROOT, Running, free_port, wait_until

pytestmark = pytest.mark.timeout(180)

PARENT = "b7ad6b7169203331"
PROCESS = "POST /documents/{document_id}/process"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Takes spans at `/v1/traces` and webhooks at `/hook`."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Running]:
    origin = f"http://127.0.0.1:{collector.port}"
    running = Running(
        tmp_path_factory.mktemp("stack"), free_port(),
        OTEL_EXPORTER_OTLP_ENDPOINT=origin, OTEL_BSP_SCHEDULE_DELAY="200",
        EGRESS_ALLOWED_ORIGINS=origin,
    )  # fmt: skip
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def ada(stack: Running) -> AsyncIterator[Person]:
    async with httpx.AsyncClient(base_url=stack.base, timeout=30) as http:
        yield await Person.registered(http, f"ada-{token_hex(6)}@example.com")


def spans(collector: Collector, trace_id: str) -> dict[str, list[Any]]:
    """By service and name."""
    found = defaultdict(list)
    for posted in collector.posted:
        if posted.path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(posted.body).resource_spans:
                told = {each.key: each.value.string_value for each in group.resource.attributes}
                for span in group.scope_spans[0].spans:
                    if span.trace_id.hex() == trace_id:
                        found[f"{told['service.name']}: {span.name}"].append(span)
    return found


def delivered(collector: Collector, event: str) -> Posted | None:
    hooks = [posted for posted in collector.posted if posted.path == "/hook"]
    return next((posted for posted in hooks if f'"{event}"'.encode() in posted.body), None)


async def test_a_request_is_one_trace_up_to_the_receiver(stack: Running, collector: Collector, ada: Person) -> None:
    url = f"http://127.0.0.1:{collector.port}/hook"
    made = await ada.post("/webhooks", json={"url": url, "events": ["document.processing", "document.completed"]})
    assert made.status_code == 201, made.text
    document = await ada.uploaded(pdfs.pdf(["x"]))
    trace_id, request_id = token_hex(16), f"req_{token_hex(8)}"
    headers = {"traceparent": f"00-{trace_id}-{PARENT}-01", "tracestate": "us=secret", "X-Request-ID": request_id}
    answer = await ada.post(f"/documents/{document['document_id']}/process", headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (202, request_id)
    assert {"traceparent", "tracestate"}.isdisjoint(answer.headers)

    for event in ("document.processing", "document.completed"):
        wait_until(lambda event=event: delivered(collector, event), 30, f"a delivery of {event}")
        sent = delivered(collector, event)
        assert sent is not None
        assert sent.headers["x-request-id"] == request_id
        assert re.fullmatch(rf"00-{trace_id}-(?!{PARENT})[0-9a-f]{{16}}-01", sent.headers["traceparent"])
        assert "tracestate" not in sent.headers  # a stranger

    def found(name: str, count: int = 1) -> list[Any]:
        wait_until(lambda: len(spans(collector, trace_id)[name]) == count, 30, f"{name}: {count}")
        return spans(collector, trace_id)[name]

    (asked,), (done,) = found(f"dossier-api: {PROCESS}"), found("dossier-worker: documents.process")
    assert (asked.parent_span_id.hex(), done.parent_span_id) == (PARENT, asked.span_id)
    deliveries, posts = found("dossier-control: webhook", 2), found("dossier-control: POST", 2)
    assert {post.parent_span_id for post in posts} == {delivery.span_id for delivery in deliveries}
    assert {each.value.int_value for post in posts for each in post.attributes if each.key.endswith("status_code")} == {
        200
    }

    wait_until(lambda: any(line["event"] == "process_completed" for line in stack.events()), 10, "the line")
    lines = [line for line in stack.events() if line.get("request_id") == request_id]
    assert {line["trace_id"] for line in lines} == {trace_id}
    by_event = {line["event"]: line for line in lines}
    assert by_event["request"]["span_id"] == asked.span_id.hex()
    assert by_event["process_started"]["span_id"] == by_event["process_completed"]["span_id"] == done.span_id.hex()
    assert "webhook_attempt" in by_event


async def test_who_is_not_sampled_leaves_no_span_and_has_lines(
    stack: Running, collector: Collector, ada: Person
) -> None:
    silent, heard = token_hex(16), token_hex(16)
    for trace_id, flags in ((silent, "00"), (heard, "01")):
        await ada.get("/documents", headers={"traceparent": f"00-{trace_id}-{PARENT}-{flags}"})
    wait_until(lambda: spans(collector, heard), 30, "a span")
    assert spans(collector, silent) == {}
    wait_until(lambda: any(line.get("trace_id") == silent for line in stack.events()), 10, "the line")


def test_without_a_setting_nothing_of_it_is_loaded() -> None:
    code = (
        "import app.server, app.worker, core.telemetry, sys; from core.config import Settings;"
        "core.telemetry.export_spans(Settings(), 'api');"
        "sys.exit(any(name.startswith(('opentelemetry.exporter', 'google.protobuf')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_missing_library_is_one_line_before_anything_starts() -> None:
    code = (
        "import importlib.util as util; find = util.find_spec;"
        "util.find_spec = lambda name, *_: None if name.startswith('opentelemetry.exporter') else find(name);"
        "from main import cli; cli(['--env', 'local', '--role', 'api'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    needed = "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
    assert ended.stderr == f"dossier: OTEL_EXPORTER_OTLP_ENDPOINT: needs `{needed}`\n"
