"""What holds for every request: ids, headers, limits, versions of paths, documentation."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from tests.clients import Person, problem

SECURITY_HEADERS = ("x-content-type-options", "content-security-policy", "referrer-policy", "permissions-policy")


async def test_every_path_is_served_with_and_without_the_version(http: httpx.AsyncClient, ada: Person) -> None:
    assert (await ada.get("/v1/users/me")).json() == (await ada.get("/users/me")).json()
    assert (await http.get("/v1/health")).json() == {"status": "ok"}
    problem(await http.get("/v1/v1/health"), 404, "not_found")
    assert not [path for path in (await http.get("/openapi.json")).json()["paths"] if path.startswith("/v1")]


async def test_a_fitting_request_id_is_echoed_and_others_are_replaced(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health", headers={"X-Request-ID": "abc_DEF-1234"})).headers[
        "x-request-id"
    ] == "abc_DEF-1234"
    for odd in ("short", "x" * 65, "has space", "<script>"):
        assert (await http.get("/health", headers={"X-Request-ID": odd})).headers["x-request-id"] != odd


async def test_refusals_carry_the_same_headers_as_answers(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.get("/health"), await http.get("/nowhere"), await http.get("/users/me"), await http.put("/health"),
        await http.post("/auth/login", content=b"{", headers={"Content-Type": "application/json"}),
    ):  # fmt: skip
        for header in (*SECURITY_HEADERS, "x-request-id", "cache-control"):
            assert header in answer.headers, (answer.request.url, header)
        assert "server" not in answer.headers


async def test_unknown_paths_and_methods_are_refused(http: httpx.AsyncClient) -> None:
    problem(await http.get("/nowhere"), 404, "not_found")
    problem(await http.get("/documents/"), 404, "not_found")
    refused = await http.put("/documents")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD"


async def test_the_line_of_a_request_names_its_path_known_or_not(http: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        await http.get("/v1/health")
        await http.get("/nowhere")
        await http.get("/" + "x" * 1000)
    told = [(line["path"], line["route"], line["status"]) for line in lines if line["event"] == "request"]
    assert told == [("/health", "/health", 200), ("/nowhere", "other", 404), ("/" + "x" * 255, "other", 404)]


async def test_shapes_that_no_client_needs_are_refused(http: httpx.AsyncClient) -> None:
    problem(await http.get("/documents?" + "x" * 9000), 414, "uri_too_long")
    problem(await http.get("/health", headers={"X-Big": "x" * 20_000}), 431, "headers_too_large")
    problem(await http.get("/health", headers={f"X-{number}": "1" for number in range(120)}), 431, "headers_too_large")
    problem(await http.post("/folders", headers={"Content-Length": "12x"}), 400, "malformed_request")


async def test_nobody_is_read_before_being_known(http: httpx.AsyncClient) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 65_536

    problem(await http.post("/documents/upload", content=body()), 401, "token_missing")
    assert read == 0


async def test_a_large_json_body_is_cut(ada: Person) -> None:
    problem(await ada.post("/folders", json={"name": "x" * 1_100_000}), 413, "body_too_large")


async def test_head_answers_like_get_without_a_body(ada: Person) -> None:
    got, head = await ada.get("/users/me"), await ada.call("HEAD", "/users/me")
    assert head.status_code == 200
    assert head.headers["etag"] == got.headers["etag"]


async def test_health_readiness_and_metrics(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json() == {"status": "ok"}
    ready = (await http.get("/health/ready")).json()
    assert ready["status"] == "ready"
    assert set(ready["checks"]) == {"mongo", "redis", "storage", "broker"}
    await http.get("/nowhere/secret-path")
    metrics = (await http.get("/metrics")).text
    assert 'http_request_duration_seconds_count{method="GET",route="/health",status="200"}' in metrics
    assert "secret-path" not in metrics


async def test_the_docs_need_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    root = await http.get("/")
    assert (root.status_code, root.headers["location"]) == (307, "/docs")
    for page in ("/docs", "/redoc"):
        answer = await http.get(page)
        assert answer.status_code == 200
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert "<script>" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        for source in answer.text.split('src="')[1:]:
            assert (await http.get(source.split('"')[0])).status_code == 200


async def test_openapi_names_credentials_and_problems(http: httpx.AsyncClient) -> None:
    spec = (await http.get("/openapi.json")).json()
    assert spec["openapi"].startswith("3.1")
    operations = {
        (method, path): operation for path, item in spec["paths"].items() for method, operation in item.items()
    }
    public = {path for (_, path), operation in operations.items() if operation["security"] == []}
    assert public == {
        "/auth/register", "/auth/login", "/auth/refresh", "/health", "/health/ready", "/metrics",
    }  # fmt: skip
    for operation in operations.values():
        assert operation.get("summary")
        assert operation.get("description")
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)


async def test_the_openapi_document_is_the_one_on_record(http: httpx.AsyncClient, pytestconfig: pytest.Config) -> None:
    """A change of the contract is a change of this file, seen in review: `make openapi` writes it."""
    on_record = json.loads((Path(pytestconfig.rootpath) / "docs/openapi.json").read_text())
    assert (await http.get("/openapi.json")).json() == on_record
