"""The functions of deploy/aws with the events of API Gateway, SQS and the schedule; what AWS has is played here."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from core.ids import random_token
from core.local.stack import LocalServers
from tests.clients import API_KEY, PRIVATE_TOKEN, SIGNING_SECRET, Person
from tests.corpus.pdfs import pdf

ROOT = Path(__file__).parents[2]
ORIGIN_SECRET = "only-the-edge-knows"
EDGE = {"x-origin-secret": ORIGIN_SECRET}

# Lambda's runtime in small: one event a line, one answer a line.
RUNTIME = """
import importlib, json, sys
handler = importlib.import_module(sys.argv[1]).handler
for line in sys.stdin:
    try:
        answer = handler(json.loads(line), None)
    except Exception as error:
        answer = {"errorType": type(error).__name__}
    print("ANSWER " + json.dumps(answer), flush=True)
"""


class Aws:
    """SQS and Secrets Manager, as far as they are asked."""

    def __init__(self, secrets: dict[str, dict[str, str]]) -> None:
        self.messages: list[str] = []
        self.queue_is_down = False
        operations: dict[str, Callable[[Any], object]] = {
            "AmazonSQS.SendMessage": self._sent,
            "AmazonSQS.GetQueueAttributes": lambda asked: {"Attributes": {}},
            "secretsmanager.GetSecretValue": lambda asked: {"SecretString": json.dumps(secrets[asked["SecretId"]])},
        }
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                target = self.headers["X-Amz-Target"]
                down = aws.queue_is_down and target.startswith("AmazonSQS")
                content = json.dumps({} if down else operations[target](asked)).encode()
                self.send_response(503 if down else 200)
                self.send_header("Content-Type", self.headers["Content-Type"])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _sent(self, asked: dict[str, Any]) -> dict[str, str]:
        self.messages.append(asked["MessageBody"])
        return {"MessageId": str(len(self.messages))}

    def taken(self) -> dict[str, Any]:
        """The event that Lambda makes of all messages."""
        bodies, self.messages = self.messages, []
        return records(*bodies)


class Function:
    """One copy of a Lambda function."""

    def __init__(self, module: str, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNTIME, module],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[str] = []

    def call(self, event: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return answer
            self.said.append(line)
        raise AssertionError(self.said[-10:])

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Gateway(httpx.AsyncBaseTransport):
    """An HTTP API: requests become events of payload format 2.0."""

    def __init__(self, function: Function) -> None:
        self._function = function

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        is_text = request.headers.get("content-type", "").startswith(("text/", "application/json"))
        http = {"method": request.method, "path": request.url.path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7"}
        event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": request.url.path,
            "rawQueryString": request.url.query.decode(),
            "headers": {**request.headers, "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"},
            "requestContext": {"http": {**http, "userAgent": "tests"}, "stage": "$default", "requestId": "id"},
            "isBase64Encoded": not is_text,
            "body": body.decode() if is_text else base64.b64encode(body).decode(),
        }
        answer = self._function.call(event)
        content = answer.get("body", "")
        decoded = base64.b64decode(content) if answer.get("isBase64Encoded") else content.encode()
        return httpx.Response(answer["statusCode"], headers=answer.get("headers"), content=decoded)


def records(*bodies: str) -> dict[str, Any]:
    queue = {"eventSource": "aws:sqs", "attributes": {"ApproximateReceiveCount": "1"}}
    return {"Records": [{"messageId": f"m{number}", "body": body, **queue} for number, body in enumerate(bodies)]}


@pytest.fixture(scope="module")
def aws(servers: LocalServers, signing_key: Path) -> Iterator[Aws]:
    secret = {
        "mongo_url": servers.mongo_url,
        "redis_url": servers.redis_url,
        "jwt_private_key": signing_key.read_text(),
        "api_key": API_KEY,
        "private_tokens": PRIVATE_TOKEN,
        "scan_signing_secret": SIGNING_SECRET,
        "origin_secret": ORIGIN_SECRET,
    }
    aws = Aws({"whole": secret, "without-redis": {**secret, "redis_url": "redis://127.0.0.1:1/0"}})
    yield aws
    aws.server.shutdown()
    aws.server.server_close()


@pytest.fixture(scope="module")
def env(servers: LocalServers, aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    prefix = f"a{random_token(48)}"
    yield {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "deploy/aws"),
        "APP_ENV": "test",
        "MONGO_DB": prefix,
        "DATA_DIR": str(tmp_path_factory.mktemp("lambda") / "dossier"),
        "SECRETS_ARN": "whole",
        "WAKE_UPS_QUEUE_URL": f"{aws.url}/123456789012/wake-ups",
        "AWS_ENDPOINT_URL_SQS": aws.url,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": aws.url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url,
        "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
        "AWS_REGION": servers.s3_region,
        "AWS_DEFAULT_REGION": servers.s3_region,
        "RECONCILE_INTERVAL_SECONDS": "1",
    }
    with MongoClient[dict[str, Any]](servers.mongo_url) as client:
        for name in client.list_database_names():
            if name.startswith(prefix):
                client.drop_database(name)


@pytest.fixture(scope="module")
def worker(env: dict[str, str]) -> Iterator[Function]:
    """No broker can be reached from there."""
    worker = Function("functions.worker", {**env, "SECRETS_ARN": "without-redis"})
    assert worker.call({"migrate": True}) == {}
    yield worker
    worker.end()


@pytest.fixture(scope="module")
def api(env: dict[str, str], worker: Function) -> Iterator[Function]:
    api = Function("functions.api", env)
    yield api
    api.end()


@pytest.fixture
async def http(api: Function) -> AsyncIterator[httpx.AsyncClient]:
    gateway = Gateway(api)
    async with httpx.AsyncClient(transport=gateway, base_url="https://gateway.test", headers=EDGE) as http:
        yield http


@pytest.fixture
async def ada(http: httpx.AsyncClient, aws: Aws) -> Person:
    aws.queue_is_down = False
    aws.messages.clear()
    return await Person.registered(http, f"{random_token(48)}@example.org")


async def status_of(ada: Person, document_id: str) -> str:
    status: str = (await ada.get(f"/documents/{document_id}/status")).json()["status"]
    return status


async def asked(ada: Person) -> str:
    """The id of a new document whose processing was accepted."""
    document_id: str = (await ada.uploaded(pdf(["Hello from a function"])))["document_id"]
    assert (await ada.post(f"/documents/{document_id}/process")).status_code == 202
    return document_id


async def test_a_document_goes_from_its_upload_to_its_result(ada: Person, aws: Aws, worker: Function) -> None:
    document_id = await asked(ada)
    assert await status_of(ada, document_id) == "PROCESSING"
    assert [json.loads(body)["task"] for body in aws.messages] == ["documents.process"]
    assert worker.call(aws.taken()) == {"batchItemFailures": []}
    assert await status_of(ada, document_id) == "COMPLETED"
    assert "Hello from a function" in (await ada.get(f"/documents/{document_id}/result/text")).text


async def test_bytes_come_back_as_they_went(ada: Person) -> None:
    content = pdf(["Bytes \x00\xff"])
    document_id = (await ada.uploaded(content))["document_id"]
    assert (await ada.get(f"/documents/{document_id}/content")).content == content


async def test_a_wake_up_that_cannot_be_taken_is_named_and_the_others_go_on(
    ada: Person, aws: Aws, worker: Function
) -> None:
    document_id = await asked(ada)
    unknown = json.dumps({"task": "documents.unheard_of", "args": [], "request_id": ""})
    answer = worker.call(records("no json", unknown, *aws.messages))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}, {"itemIdentifier": "m1"}]}
    assert await status_of(ada, document_id) == "COMPLETED"


async def test_a_wake_up_that_comes_twice_does_nothing_more(ada: Person, aws: Aws, worker: Function) -> None:
    document_id = await asked(ada)
    event = aws.taken()
    assert worker.call(event) == worker.call(event) == {"batchItemFailures": []}
    assert (await ada.get(f"/documents/{document_id}/status")).json()["attempt"] == 1


async def test_what_is_asked_while_the_queue_is_down_is_brought_by_the_schedule(
    ada: Person, aws: Aws, worker: Function
) -> None:
    aws.queue_is_down = True
    document_id = await asked(ada)
    aws.queue_is_down = False
    deadline = time.monotonic() + 30
    while not any(document_id in body for body in aws.messages):
        worker.call({"every": "minute"})
        assert time.monotonic() < deadline, worker.said[-3:]
    assert worker.call(aws.taken()) == {"batchItemFailures": []}
    assert await status_of(ada, document_id) == "COMPLETED"


async def test_the_hourly_tasks_run(worker: Function) -> None:
    assert worker.call({"every": "hour"}) == {}, worker.said[-3:]


@pytest.mark.parametrize(("is_down", "expected"), [(False, "ok"), (True, "failed")])
async def test_readiness_asks_the_queue_that_is_used(
    http: httpx.AsyncClient, aws: Aws, is_down: bool, expected: str
) -> None:
    aws.queue_is_down = is_down
    deadline = time.monotonic() + 20  # a busy machine may need more than one check allows
    while (broker := (await http.get("/health/ready")).json()["checks"]["broker"]["status"]) != expected:
        assert time.monotonic() < deadline, broker


@pytest.mark.parametrize("secret", [{}, {"x-origin-secret": "guessed"}])
async def test_who_passes_the_edge_by_is_turned_away(api: Function, secret: dict[str, str]) -> None:
    async with httpx.AsyncClient(transport=Gateway(api), base_url="https://gateway.test", headers=secret) as http:
        assert (await http.get("/health")).status_code == 403


async def test_metrics_are_not_for_everybody(http: httpx.AsyncClient) -> None:
    assert (await http.get("/metrics")).status_code == (await http.get("/v1/metrics")).status_code == 404
