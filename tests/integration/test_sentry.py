"""Errors that nobody expected reach Sentry, without secrets; expected ones do not."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from secrets import token_hex

import pytest
from pydantic import SecretStr

from core.config import Settings
from core.errors import NotFound
from core.telemetry import init_sentry


@pytest.fixture
def envelopes() -> Iterator[tuple[int, list[str]]]:
    """A port that plays Sentry, and what arrived there."""
    arrived: list[str] = []

    class Sentry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append((gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body).decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Sentry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, arrived
        server.shutdown()
        thread.join()


def test_only_the_unexpected_is_reported_and_scrubbed(envelopes: tuple[int, list[str]]) -> None:
    import sentry_sdk

    port, arrived = envelopes
    settings = Settings(app_env="stage", sentry_dsn=SecretStr(f"http://key@127.0.0.1:{port}/1"))
    init_sentry(settings, "worker")
    try:
        secret = token_hex()  # in a local, and in the message
        for error in (NotFound("nobody"), RuntimeError(f"redis://user:{secret}@host")):
            try:
                raise error
            except Exception as caught:
                sentry_sdk.capture_exception(caught)
        sentry_sdk.flush(5)
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.init()
    events = [json.loads(line) for envelope in arrived for line in envelope.splitlines() if '"exception"' in line]
    assert [event["exception"]["values"][-1]["type"] for event in events] == ["RuntimeError"]
    assert events[0]["environment"] == "stage"
    assert secret not in "".join(arrived)


def test_without_a_dsn_nothing_is_loaded() -> None:
    init_sentry(Settings(), "api")
