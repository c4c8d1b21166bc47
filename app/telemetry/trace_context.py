"""Which trace a call belongs to: W3C Trace Context, read from the caller and told to upstreams.

Needs no OpenTelemetry: what is sent to a collector is made in traces.py, after the call.
"""

import re
from random import getrandbits

from app.telemetry.call_log import CallRecord

TRACEPARENT = "traceparent"
_VERSION_0 = r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
# A later version may have more behind what is known of it.
_LATER = r"(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
_PARENTS = tuple(re.compile(form).fullmatch for form in (_VERSION_0, _LATER))
_RANDOM = 1 << 56  # the last seven bytes of a trace id are random, and decide


def begin_trace(record: CallRecord, parent: str | None, sample: float) -> None:
    """Gives the record its ids, if this call is one of those to be traced.

    `parent` is the caller's `traceparent`, whose decision counts; else `sample`, from 0 to 1, is
    the part of all calls. What is no traceparent is ignored, as the standard has it.
    """
    found = _read(parent) if parent is not None else None
    if found is not None:
        trace_id, parent_id, is_sampled = found
        if is_sampled:
            record.trace_id, record.parent_span_id = trace_id, parent_id
            record.span_id = f"{getrandbits(64) or 1:016x}"
        return
    number = getrandbits(128) or 1
    if number % _RANDOM < sample * _RANDOM:
        record.trace_id = f"{number:032x}"
        record.span_id = f"{getrandbits(64) or 1:016x}"


def _read(header: str) -> tuple[str, str, bool] | None:
    """Trace id, span id and whether it is sampled; None for what is no traceparent."""
    for parse in _PARENTS:
        found = parse(header.strip())
        if found is not None and found[1].strip("0") and found[2].strip("0"):
            return found[1], found[2], bool(int(found[3], 16) & 1)
    return None


def traceparent(record: CallRecord) -> str:
    """The header that makes an upstream's spans children of this call's."""
    return f"00-{record.trace_id}-{record.span_id}-01"
