"""Lines of requests: what is in them, what is not, and when they are written."""

import asyncio
import json

import pytest

from core.http import request_log
from core.http.request_log import RequestLog


def told(written: list[bytes]) -> list[dict[str, object]]:
    return [json.loads(line) for line in b"".join(written).splitlines()]


async def test_lines_wait_a_moment_and_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "EVERY_S", 0.02)
    written: list[bytes] = []
    log = RequestLog("api", written.append)
    for number in range(3):
        log("request", path=f"/documents/{number}", status=200)
    assert written == []
    async with asyncio.timeout(5):
        while not written:
            await asyncio.sleep(0.005)
    assert len(written) == 1
    assert [line["path"] for line in told(written)] == ["/documents/0", "/documents/1", "/documents/2"]
    first = told(written)[0]
    assert (first["event"], first["level"], first["service"], first["status"]) == ("request", "info", "api", 200)
    assert str(first["ts"]).endswith("Z")


async def test_many_are_not_kept_until_the_moment_is_over() -> None:
    written: list[bytes] = []
    log = RequestLog("api", written.append)
    while not written:
        log("request", path="/" + "x" * 1000)
    assert request_log.MOST_BYTES < len(written[0]) < 2 * request_log.MOST_BYTES
    log.flush()


async def test_the_end_writes_what_is_left_and_nothing_twice() -> None:
    written: list[bytes] = []
    log = RequestLog("api", written.append)
    log("request", path="/a")
    log.flush()
    log.flush()
    assert [line["path"] for line in told(written)] == ["/a"]
    log("request", path="/b")
    log.flush()
    assert [line["path"] for line in told(written)] == ["/a", "/b"]


async def test_what_a_client_puts_into_a_path_is_no_secret_in_the_log() -> None:
    written: list[bytes] = []
    log = RequestLog("api", written.append)
    log("request", path="/documents/eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c3IifQ.c2lnbmF0dXJl\n", status=404)
    log.flush()
    (line,) = told(written)
    assert line["path"] == "/documents/[redacted]\n"
