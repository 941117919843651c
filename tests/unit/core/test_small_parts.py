"""Ids, JSON, cursors, conditional requests, logs, wake-ups."""

import json
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from core.celery import WakeUps
from core.clock import utc_now
from core.errors import AppError, CursorInvalid, Invalid, Malformed, NotFound
from core.http.pagination import Cursors
from core.ids import id_pattern, new_id
from core.logging import configure_logging, redact
from core.paging import Position
from core.security.keys import DerivedKeys
from core.strict_json import read_json


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = []
    for _ in range(5):
        made.append(new_id("doc"))
        time.sleep(0.002)
    assert made == sorted(made)
    assert all(id_pattern("doc").fullmatch(one) for one in made)
    assert len({new_id("doc") for _ in range(1000)}) == 1000


def test_the_clock_knows_only_milliseconds() -> None:
    assert utc_now().microsecond % 1000 == 0
    assert utc_now().tzinfo is UTC


def test_the_code_of_an_error_is_its_name() -> None:
    class SomethingOdd(NotFound): ...

    assert (SomethingOdd.code, SomethingOdd.title) == ("something_odd", "Something odd")
    assert AppError.code == "internal_error"


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT


@given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20))
def test_every_storable_value_is_read_as_it_is(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    with suppress(Malformed, Invalid):
        read_json(raw)


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [(b'{"a":["ok","x\\u0000"]}', "/a/1"), (b'{"a/b":"\\ud800"}', "/a~1b"), (b'{"\\ud800":1}', "")],
)
def test_what_cannot_be_stored_is_pointed_at(raw: bytes, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_json(raw)
    assert refused.value.pointer == pointer


def test_json_may_be_thirty_two_levels_deep() -> None:
    read_json(b"[" * 32 + b"]" * 32)
    for raw in (b"[" * 34 + b"]" * 34, b"[" * 10_000 + b"]" * 10_000):
        with pytest.raises(Malformed):
            read_json(raw)


def test_a_cursor_is_bound_to_its_list_and_survives_a_new_key() -> None:
    old, new = b"o" * 32, b"n" * 32
    position = Position(datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC), "doc_1")
    text = Cursors([old]).encode(position, b"list")
    assert Cursors([new, old]).decode(text, b"list") == position
    for cursors, scope in ((Cursors([old]), b"other"), (Cursors([new]), b"list")):
        with pytest.raises(CursorInvalid):
            cursors.decode(text, scope)


@given(st.text(max_size=100))
def test_no_text_is_a_cursor(text: str) -> None:
    with pytest.raises(CursorInvalid):
        Cursors([b"k" * 32]).decode(text, b"list")


def test_purposes_and_roots_have_keys_of_their_own() -> None:
    keys = DerivedKeys([b"a" * 32, b"b" * 32])
    derived = [*keys.derive("cursor"), *keys.derive("local-url")]
    assert len(set(derived)) == 4
    assert all(len(key) == 32 for key in derived)


def test_secrets_leave_no_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("api")
    jwt = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"
    try:
        structlog.get_logger("t").info(
            "request", password="hunter2", nested={"Authorization": "Bearer x1", "list": [{"token": "x2"}]},
            text=f"got {jwt} from mongodb://user:x3@host/?X-Amz-Signature=x4&y", line="one\ntwo",
        )  # fmt: skip
        raise ValueError("redis://u:x5@host")
    except ValueError:
        structlog.get_logger("t").exception("failed")
    lines = capsys.readouterr().out.splitlines()
    structlog.reset_defaults()
    assert len(lines) == 2
    for secret in ("hunter2", "x1", "x2", "x3", "x4", "x5", jwt):
        assert secret not in "".join(lines)
    assert {"ts", "level", "event", "service"} <= set(json.loads(lines[0]))
    assert "ValueError" in json.loads(lines[1])["exception"]


def test_redaction_keeps_what_is_no_secret() -> None:
    kept = {
        "event": "process_failed",
        "code": "timeout",
        "count": 3,
        "path": "/documents",
        "none": None,
        "items": [1, "a"],
    }
    assert redact(None, "", dict(kept)) == kept


class Broker:
    """A Celery app that answers as told."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.sent, self.release = fails, 0, threading.Event()
        self.release.set()

    def send_task(self, *_: Any, **__: Any) -> None:
        self.release.wait(5)
        self.sent += 1
        if self.fails:
            raise ConnectionError


def until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_wake_up_never_waits_and_never_raises() -> None:
    broker, dropped = Broker(), []
    wake_ups = WakeUps(broker, "", dropped=lambda: dropped.append(1))  # type: ignore[arg-type]
    broker.release.clear()
    started = time.monotonic()
    for _ in range(250):
        wake_ups.send("t", (), queue="q", request_id="r")
    assert time.monotonic() - started < 1
    assert len(dropped) == 50  # two hundred may wait
    broker.release.set()
    until(lambda: broker.sent == 200)
    wake_ups.close()
    wake_ups.send("t", (), queue="q", request_id="r")
    assert len(dropped) == 51


def test_after_three_failures_nothing_is_tried_for_a_while() -> None:
    now, dropped = [0.0], []
    broker = Broker(fails=True)
    wake_ups = WakeUps(broker, "", dropped=lambda: dropped.append(1), now=lambda: now[0])  # type: ignore[arg-type]
    for count in (1, 2, 3):
        wake_ups.send("t", (), queue="q", request_id="r")
        until(lambda count=count: len(dropped) == count)
    wake_ups.send("t", (), queue="q", request_id="r")
    assert (len(dropped), broker.sent) == (4, 3)
    now[0] += 11
    broker.fails = False
    wake_ups.send("t", (), queue="q", request_id="r")
    until(lambda: broker.sent == 4)
    wake_ups.close()
