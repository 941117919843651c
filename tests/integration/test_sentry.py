"""Errors that nobody expected reach Sentry once, without secrets; expected ones do not, in whatever process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
import sentry_sdk
from celery.beat import SchedulingError
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import AutoReconnect
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import TimeoutError as RedisLate

from core.config import ConfigError, Settings
from core.errors import NotFound, Unavailable
from core.exits import CannotGoOn
from core.telemetry import init_sentry
from core.version import VERSION
from tests.clients import PASSWORD, Person, problem
from tests.corpus import pdfs
from tests.integration.collecting import Collector, collecting
from tests.integration.running import ROOT, Running, free_port, wait_until

pytestmark = pytest.mark.timeout(180)

PARENT = "b7ad6b7169203331"


class Sentry:
    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.dsn = f"http://key@127.0.0.1:{collector.port}/1"

    def events(self, **tags: str) -> list[dict[str, Any]]:
        """What arrived so far with these tags."""
        lines = [line for posted in self.collector.posted for line in posted.body.splitlines()]
        found = [json.loads(line) for line in lines if b'"exception"' in line]
        return [event for event in found if tags.items() <= event["tags"].items()]

    def wait_for(self, **tags: str) -> dict[str, Any]:
        wait_until(lambda: self.events(**tags), 30, f"an event with {tags}")
        return self.events(**tags)[0]

    def text(self) -> str:
        return "".join(posted.body.decode() for posted in self.collector.posted)


@pytest.fixture(scope="module")
def sentry() -> Iterator[Sentry]:
    with collecting() as collector:
        yield Sentry(collector)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sentry: Sentry) -> Iterator[Running]:
    running = Running(
        tmp_path_factory.mktemp("stack"), free_port(), SENTRY_DSN=sentry.dsn, RECONCILE_INTERVAL_SECONDS="1"
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def environment(stack: Running) -> dict[str, str]:
    """Of the running processes, with the addresses of their servers."""
    return stack.find("--role", "api")[0].environ()


@pytest.fixture(scope="module")
def documents(environment: dict[str, str]) -> Iterator[Any]:
    with MongoClient[Any](environment["MONGO_URL"]) as mongo:
        yield mongo["dossier_documents"]["documents"]


@pytest.fixture
async def ada(stack: Running) -> Any:
    async with httpx.AsyncClient(base_url=stack.base, timeout=30) as http:
        yield await Person.registered(http, f"ada-{token_hex(6)}@example.com")


async def test_what_is_expected_is_not_reported(stack: Running, sentry: Sentry, ada: Person) -> None:
    problem(await ada.get("/nowhere"), 404, "not_found")
    problem(await ada.http.get("/documents"), 401, "token_missing")
    problem(await ada.post("/folders", json={"name": 7}), 422, "validation_failed")
    corrupt = await ada.uploaded(b"%PDF-1.7\nstartxref\n0\n%%EOF")
    await ada.post(f"/documents/{corrupt['document_id']}/process")
    assert (await ada.ended(corrupt["document_id"]))["error"]["code"] == "document_corrupt"
    (mongod,) = stack.find("mongod")
    mongod.suspend()
    try:
        problem(await ada.get("/documents"), 503, "dependency_unavailable")
    finally:
        mongod.resume()
    wait_until(stack.ready, 30, "ready again")
    assert sentry.events() == []


async def test_an_error_of_the_api_arrives_once_and_without_secrets(
    sentry: Sentry, documents: Any, ada: Person
) -> None:
    document = await ada.uploaded(pdfs.pdf(["x"]))
    secret, trace_id = token_hex(8), token_hex(16)
    documents.update_one({"_id": document["document_id"]}, {"$set": {"size": f"see {secret}"}})
    answer = await ada.get(
        f"/documents/{document['document_id']}?token={secret}&X-Amz-Signature={secret}",
        headers={"Cookie": f"session={secret}", "X-API-Key": secret, "traceparent": f"00-{trace_id}-{PARENT}-01"},
    )
    body = problem(answer, 500, "internal_error")
    event = sentry.wait_for(request_id=body["request_id"])
    assert event["exception"]["values"][-1]["type"] == "ValidationError"
    assert (event["release"], event["environment"]) == (f"dossier@{VERSION}", "local")
    assert (event["tags"]["service"], event["tags"]["event"]) == ("api", "unhandled_error")
    assert event["contexts"]["trace"]["trace_id"] == trace_id
    documents.delete_one({"_id": document["document_id"]})
    again = await ada.get("/documents?limit=x")
    problem(again, 422, "validation_failed")
    assert len(sentry.events(service="api")) == 1
    for hidden in (secret, PASSWORD, ada.tokens["access_token"], ada.tokens["refresh_token"], ada.email):
        assert hidden not in sentry.text()


async def test_an_error_of_a_worker_arrives_once_and_without_secrets(
    sentry: Sentry, documents: Any, ada: Person
) -> None:
    document = await ada.uploaded(pdfs.pdf(["x"]))
    row, secret = documents.find_one({"_id": document["document_id"]}), token_hex(8)
    broken = {
        **row, "_id": "doc_broken", "key": "nowhere", "size": f"see {secret}", "status": "PROCESSING",
        "run": {"state": "queued", "attempt": 1, "woken_at": row["created_at"], "ready_at": row["created_at"]},
    }  # fmt: skip
    documents.insert_one(broken)
    try:
        event = sentry.wait_for(event="task_failed")
    finally:
        documents.delete_one({"_id": "doc_broken"})
    assert event["exception"]["values"][-1]["type"] == "ValidationError"
    assert (event["release"], event["environment"]) == (f"dossier@{VERSION}", "local")
    assert event["tags"]["service"] == "control"
    assert event["contexts"]["line"]["task"] == "documents.reconcile"
    spans = [event["contexts"]["trace"]["span_id"] for event in sentry.events(event="task_failed")]
    assert len(spans) == len(set(spans))  # one for each run of the task
    assert secret not in sentry.text()


def test_an_error_of_beat_arrives_once(sentry: Sentry, environment: dict[str, str], tmp_path: Path) -> None:
    for ending in ("", ".db", ".dat", ".dir", ".bak"):  # one of them is what this Python keeps a schedule in
        (tmp_path / f"beat-schedule{ending}").mkdir()
    ended = subprocess.run(
        [sys.executable, "main.py", "--env", "local", "--role", "beat", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **environment, "DOSSIER_SERVICE": "beat"},
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode != 0
    event = sentry.wait_for(service="beat")
    assert (event["release"], event["environment"]) == (f"dossier@{VERSION}", "local")
    told = [event["contexts"].get("line", {}).get("message", "") for event in sentry.events(service="beat")]
    assert all(told)  # what ended the process was told of already, and is not again by Python's own end
    assert len([line for line in told if line.startswith("beat raised exception")]) == 1


def of_beat(cause: Exception) -> Exception:
    """What Celery raises in its place."""
    try:
        try:
            raise cause
        except Exception:
            raise SchedulingError("not sent")  # noqa: B904 – as Celery does
    except SchedulingError as error:
        return error


def test_only_the_unexpected_is_reported_and_scrubbed() -> None:
    secret = token_hex(8)
    expected = [
        NotFound("x"), Unavailable("x"), ConfigError("x"), CannotGoOn("x"), OperationalError("x"), RedisAway("x"),
        RedisLate("x"), AutoReconnect("x"), of_beat(RedisAway("x")),
    ]  # fmt: skip
    unexpected = [RuntimeError(f"redis://user:{secret}@host"), of_beat(KeyError("y"))]
    with collecting() as collector:
        here = Sentry(collector)
        report = init_sentry(Settings(app_env="stage", sentry_dsn=SecretStr(here.dsn)), "beat")
        assert report is not None
        try:
            for error in [*expected, *unexpected]:
                report({"event": "library", "level": "error", "exc_info": error, "password": secret})
            sentry_sdk.flush(5)
        finally:
            sentry_sdk.get_client().close()
            sentry_sdk.init()
        found = [event["exception"]["values"][-1]["type"] for event in here.events(service="beat")]
        assert found == ["RuntimeError", "SchedulingError"]
        assert here.events()[0]["environment"] == "stage"
        assert secret not in here.text()


def test_without_a_dsn_nothing_is_loaded() -> None:
    assert init_sentry(Settings(), "api") is None
    code = "import app.server, app.worker, core.telemetry, sys; sys.exit('sentry_sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
