r"""Mends halves of surrogate pairs in JSON, left by upstreams that cut text by UTF-16 units.

JSON may escape a character above U+FFFF as two halves, `\ud83d\ude00`. A half alone is no
character: UTF-8 cannot encode it, and msgspec refuses the whole document. Here a half is joined
with the other one if that begins the next event, and is replaced by U+FFFD otherwise.
"""

import re
from collections.abc import Iterator

# A pair, or a half. `_halves` checks whether its backslash is itself escaped.
_ESCAPES = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
).finditer
_HALF_BYTES = 6
BACKSLASH = 0x5C  # as a number: looking for one costs a seventh of looking for its text
_REPLACEMENT = rb"\ufffd"


def may_hold_halves(data: bytes) -> bool:
    """Whether surrogates may be escaped in it: a cheap test, False for most events."""
    return BACKSLASH in data and (b"\\ud" in data or b"\\uD" in data)


def mend(data: bytes) -> bytes:
    """Returns the JSON text with U+FFFD for each lone half; `data` itself if there is none."""
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
    """Moves a half that ends a string of the first event to its other half in the second one."""
    high = _last_high(first)
    low = _first_low(second) if high is not None else None
    if high is None or low is None:
        return first, second
    end = high + _HALF_BYTES
    return first[:high] + first[end:], second[:low] + first[high:end] + second[low:]


def mend_all(events: list[bytes], *, is_end: bool) -> tuple[list[bytes], bool]:
    """Mends consecutive events. True: the last one is unchanged, and needs the event after it."""
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
    """The index of a first half that ends a string."""
    if not may_hold_halves(data):
        return None
    found = None
    for at in _halves(data):
        if data[at + 3] in b"89abAB" and data[at + _HALF_BYTES : at + _HALF_BYTES + 1] == b'"':
            found = at
    return found


def _first_low(data: bytes) -> int | None:
    """The index of a second half that begins a string."""
    for at in _halves(data):
        if data[at + 3] in b"cdefCDEF" and data[at - 1] == 0x22 and not _is_escaped(data, at - 1):
            return at
    return None


def _halves(data: bytes) -> Iterator[int]:
    """The indices of lone halves."""
    for found in _ESCAPES(data):
        at = found.start()
        is_pair = found.end() - at > _HALF_BYTES
        if _is_escaped(data, at):
            if is_pair:  # the first "half" is plain text, so what follows it is alone
                yield at + _HALF_BYTES
        elif not is_pair:
            yield at


def _is_escaped(data: bytes, at: int) -> bool:
    """Whether an odd number of backslashes precedes the index."""
    first = at
    while first and data[first - 1] == 0x5C:
        first -= 1
    return (at - first) % 2 == 1
