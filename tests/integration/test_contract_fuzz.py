"""Schemathesis over the whole OpenAPI document, on a real server: no server error, nothing that the document denies."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks

from core.local.stack import LocalServers
from tests.clients import PASSWORD
from tests.corpus import pdfs
from tests.integration.running import ROOT, free_port

EXAMPLES = 25
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
schema = schemathesis.openapi.from_path(ROOT / "docs/openapi.json")


@pytest.fixture(scope="module")
def api(servers: LocalServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API in a process of its own."""
    port = free_port()
    env = os.environ | {
        "MONGO_URL": servers.mongo_url,
        "REDIS_URL": servers.redis_url,
        "S3_ENDPOINT_URL": servers.s3_endpoint_url,
        "S3_BUCKET": servers.s3_bucket,
        "AWS_ACCESS_KEY_ID": servers.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": servers.s3_secret_key,
        "DATA_DIR": str(tmp_path_factory.mktemp("fuzz")),
        "RATE_LIMIT_PER_MINUTE": "0",
        "LOG_LEVEL": "error",
    }
    command = [sys.executable, "main.py", "--env", "local", "--role", "api", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not _answers(base):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def token(api: str) -> str:
    """Somebody with a folder and a document, so that some ids lead somewhere."""
    with httpx.Client(base_url=api) as http:
        person = {"email": "fuzz@example.com", "password": PASSWORD}
        assert http.post("/auth/register", json=person).status_code == 201
        token: str = http.post("/auth/login", json=person).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        http.post("/folders", json={"name": "fuzz"})
        http.post("/documents/upload", files={"file": ("a.pdf", pdfs.pdf(["x"]))})
    return token


@schema.exclude(path="/auth/logout").exclude(path="/auth/logout-all").exclude(path="/users/me/password").parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_the_server_keeps_to_its_document(case: schemathesis.Case, api: str, token: str) -> None:
    if "wait" in (case.query or {}):
        case.query["wait"] = 0
    answer = case.call(base_url=api, headers={"Authorization": f"Bearer {token}"})
    case.validate_response(answer, checks=CHECKS)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=2):
            return True
    except OSError:
        return False
