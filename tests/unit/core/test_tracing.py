"""The trace context of the W3C: what is taken over, what is made anew, and what goes on."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import tracing
from core.tracing import Span, Trace, begin, begin_request, calling, carried, current_request_id, export_to, work

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    token = tracing._current.set(None)
    yield
    tracing._current.reset(token)
    export_to(None, 0)


@pytest.fixture
def spans() -> list[Span]:
    found: list[Span] = []
    export_to(found.append, 1)
    return found


def of(*headers: tuple[str, str]) -> Trace:
    return begin_request([(name.encode(), value.encode("latin-1")) for name, value in headers])


def is_new(trace: Trace) -> bool:
    fresh = re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace.traceparent) is not None
    return fresh and trace.trace_id != TRACE and trace.parent_id == "" and trace.state == ""


def test_a_trace_of_a_caller_goes_on_in_a_span_of_ours() -> None:
    trace = of(("traceparent", VALID), ("tracestate", "rojo=00f067aa0ba902b7,t@congo=a b"))
    assert (trace.trace_id, trace.parent_id, trace.is_sampled) == (TRACE, PARENT, True)
    assert re.fullmatch(rf"00-{TRACE}-(?!{PARENT})[0-9a-f]{{16}}-01", trace.traceparent)
    assert trace.state == "rojo=00f067aa0ba902b7,t@congo=a b"


@pytest.mark.parametrize(
    "given",
    [
        "", "00", VALID.upper(), f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01",
        f"{VALID}-what", f"{VALID}-", f"{VALID} ", f" {VALID}", f"01-{TRACE}-{PARENT}-01x", f"cc-{TRACE}-{PARENT}-01.a",
        f"00-{TRACE[:-1]}-{PARENT}-01", f"00-{TRACE}-{PARENT}-0", f"00-{TRACE}-{PARENT}-0g", f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT[:-1]}.-01", "٠٠-" + VALID[3:],
    ],
)  # fmt: skip
def test_what_has_not_the_form_starts_a_trace(given: str) -> None:
    assert is_new(begin(None, given, "a=b"))


@pytest.mark.parametrize("given", [f"cc-{TRACE}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01-more.of_it"])
def test_of_a_later_version_what_is_known_is_taken(given: str) -> None:
    trace = begin(None, given)
    assert (trace.trace_id, trace.parent_id, trace.is_sampled) == (TRACE, PARENT, True)
    assert trace.traceparent.startswith("00-")


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_of_the_flags_only_sampled_goes_on(flags: str, is_sampled: bool) -> None:
    trace = begin(None, f"00-{TRACE}-{PARENT}-{flags}")
    assert trace.traceparent.endswith("-01" if is_sampled else "-00")


def test_two_traceparents_are_none_and_two_tracestates_are_one() -> None:
    assert is_new(of(("traceparent", VALID), ("traceparent", VALID)))
    assert of(("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", "b=2")).state == "a=1,b=2"


@pytest.mark.parametrize("state", ["a", "A=1", "a=é", "a=" + "x" * 257, ",".join(["a=1"] * 33), "a=" + "x" * 511])
def test_a_tracestate_without_its_form_is_dropped_and_the_trace_goes_on(state: str) -> None:
    trace = of(("traceparent", VALID), ("tracestate", state))
    assert (trace.trace_id, trace.state) == (TRACE, "")


@given(st.text(max_size=80), st.text(max_size=600))
def test_nothing_that_comes_in_breaks_it(traceparent: str, tracestate: str) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", begin(None, traceparent, tracestate).traceparent)


def test_what_is_carried_goes_on_with_request_and_trace() -> None:
    asked = begin("req_12345678", VALID, "a=b c,d=e")
    message = carried()
    begin()
    with work("task", message):
        assert current_request_id() == "req_12345678"
        done = carried().split(" ", 2)
        assert (done[0][3:35], done[2]) == (TRACE, "a=b c,d=e")
        assert asked.span_id not in done[0]
    assert current_request_id() != "req_12345678"


@pytest.mark.parametrize("message", ["", "x", VALID])
def test_work_that_carries_nothing_good_has_a_trace_of_its_own(message: str) -> None:
    with work("task", message, "req_of_an_old_version"):
        assert current_request_id() == "req_of_an_old_version"
        assert carried()


def test_outside_of_everything_nothing_is_carried() -> None:
    assert (carried(), current_request_id()) == ("", "")


def test_a_call_says_where_it_comes_from_and_only_ours_see_the_state() -> None:
    trace = begin("req_12345678", VALID, "a=b")
    with calling("POST", "host") as call:
        assert call.headers["x-request-id"] == "req_12345678"
        assert call.headers.keys() == {"x-request-id", "traceparent"}
        assert call.headers["traceparent"][3:35] == TRACE
        assert trace.span_id not in call.headers["traceparent"]
        assert call.headers_for_ours["tracestate"] == "a=b"
    with calling("POST", "host") as other:
        assert other.headers != call.headers


def test_spans_stand_below_what_asked_for_them(spans: list[Span]) -> None:
    request = begin("req_12345678")
    message = carried()
    with work("task", message), calling("POST", "host") as call:
        call.status = 204
    sent, done = spans
    assert {sent.trace.trace_id, done.trace.trace_id} == {request.trace_id}
    assert (done.trace.parent_id, sent.trace.parent_id) == (request.span_id, done.trace.span_id)
    assert (done.kind, sent.kind, sent.attributes["http.response.status_code"]) == ("CONSUMER", "CLIENT", 204)
    assert not done.is_error
    assert not sent.is_error


def test_what_fails_is_an_error_in_its_span(spans: list[Span]) -> None:
    with pytest.raises(ZeroDivisionError), work("task", ""), calling("GET", "host"):
        raise ZeroDivisionError
    assert [span.is_error for span in spans] == [True, True]


def test_callers_decide_about_their_traces_and_the_share_about_ours(spans: list[Span]) -> None:
    assert begin().is_sampled
    assert not begin(None, f"00-{TRACE}-{PARENT}-00").is_sampled
    export_to(spans.append, 0.25)
    assert 150 < sum(begin().is_sampled for _ in range(1000)) < 350
    export_to(spans.append, 0)
    assert not begin().is_sampled
    with work("task", carried()):
        pass
    assert spans == []
