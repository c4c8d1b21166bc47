r"""Halves of surrogate pairs in JSON text, where a writer cut its text by UTF-16 units.

JSON may escape a character above U+FFFF as two halves, `\ud83d\ude00`. A half alone stands for no
character: no UTF-8 can carry it and msgspec refuses the whole document. Here a half is joined with
the other one when that opens the next event, and becomes U+FFFD otherwise. Only text that holds
such escapes at all is looked at closely.
"""

import re
from collections.abc import Iterator

# A pair, or a half. Whether its backslash is itself escaped is for `_halves` to find out.
_ESCAPES = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
).finditer
_HALF_BYTES = 6
BACKSLASH = 0x5C  # as a number: looking for one costs a seventh of looking for its text
_REPLACEMENT = rb"\ufffd"


def may_hold_halves(data: bytes) -> bool:
    """Whether surrogates are escaped in it. The first look finds nothing in most events."""
    return BACKSLASH in data and (b"\\ud" in data or b"\\uD" in data)


def mend(data: bytes) -> bytes:
    """The JSON text with U+FFFD for each half that stands alone; itself when there is none."""
    if not may_hold_halves(data):
        return data
    out: list[bytes] = []
    end = 0
    for at in _halves(data):
        out += (data[end:at], _REPLACEMENT)
        end = at + _HALF_BYTES
    if not out:
        return data
    out.append(data[end:])
    return b"".join(out)


def join(first: bytes, second: bytes) -> tuple[bytes, bytes]:
    """Two events in a row: a half that ends a text of the first one moves to its other half."""
    high = _last_high(first)
    low = _first_low(second) if high is not None else None
    if high is None or low is None:
        return first, second
    end = high + _HALF_BYTES
    return first[:high] + first[end:], second[:low] + first[high:end] + second[low:]


def mend_all(events: list[bytes], *, is_end: bool) -> tuple[list[bytes], bool]:
    """Events in a row mended. True: the last one is as it came, and waits for its other half."""
    waits = False
    if events and not is_end:
        waits = _last_high(events[-1]) is not None
    for at in range(len(events) - 1):
        one, two = join(events[at], events[at + 1])
        events[at], events[at + 1] = mend(one), two
    if events and not waits:
        events[-1] = mend(events[-1])
    return events, waits


def _last_high(data: bytes) -> int | None:
    """Where a first half ends a string."""
    if not may_hold_halves(data):
        return None
    found = None
    for at in _halves(data):
        if data[at + 3] in b"89abAB" and data[at + _HALF_BYTES : at + _HALF_BYTES + 1] == b'"':
            found = at
    return found


def _first_low(data: bytes) -> int | None:
    """Where a second half begins a string."""
    for at in _halves(data):
        if data[at + 3] in b"cdefCDEF" and data[at - 1] == 0x22 and not _is_escaped(data, at - 1):
            return at
    return None


def _halves(data: bytes) -> Iterator[int]:
    """Where halves stand alone."""
    for found in _ESCAPES(data):
        at = found.start()
        is_pair = found.end() - at > _HALF_BYTES
        if _is_escaped(data, at):
            if is_pair:  # the first "half" is plain text, so what follows it is alone
                yield at + _HALF_BYTES
        elif not is_pair:
            yield at


def _is_escaped(data: bytes, at: int) -> bool:
    """Whether an odd number of backslashes stands before."""
    first = at
    while first and data[first - 1] == 0x5C:
        first -= 1
    return (at - first) % 2 == 1
