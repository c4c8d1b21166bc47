"""Which calls are traced, and in whose trace."""

import pytest

from app.telemetry.trace_context import begin_trace, traceparent
from tests.telemetry.records import record

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def begun(parent=None, sample=1.0):
    call = record()
    begin_trace(call, parent, sample)
    return call


@pytest.mark.parametrize(
    "header",
    [f"00-{TRACE}-{SPAN}-01", f" 00-{TRACE}-{SPAN}-03 ", f"cc-{TRACE}-{SPAN}-01-what-comes-later"],
)
def test_a_call_is_in_its_callers_trace(header):
    call = begun(header, 0.0)
    assert (call.trace_id, call.parent_span_id) == (TRACE, SPAN)
    assert call.span_id not in ("", SPAN)
    assert traceparent(call) == f"00-{TRACE}-{call.span_id}-01"


def test_a_call_that_its_caller_does_not_trace_is_not_traced():
    assert begun(f"00-{TRACE}-{SPAN}-00").trace_id == ""


@pytest.mark.parametrize(
    "header",
    [
        "", "nonsense", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01-more", f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01", "00-" + "1" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_traceparent_begins_a_trace_of_its_own(header):
    call = begun(header)
    assert call.trace_id not in ("", TRACE) and call.parent_span_id == ""
    assert begun(header, 0.0).trace_id == ""


def test_the_wanted_part_of_calls_is_traced():
    traced = sum(bool(begun(sample=0.25).trace_id) for _ in range(4000))
    assert 850 < traced < 1150
