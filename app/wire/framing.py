"""Parsers of streamed bodies: server-sent events, JSON arrays, separated records.

They take bytes and return whole records. No parser awaits, decodes text or knows a provider. Each
accepts any split of its input, costs the same per byte however small the pieces are, and refuses a
record above its size limit.
"""

import re

from app.wire.errors import bad_response
from app.wire.surrogates import BACKSLASH, may_hold_halves, mend, mend_all

# The default of limits.response_bytes: an event may be the whole response, with an image in it.
MAX_RECORD_BYTES = 64 * 1024 * 1024
MAX_STRAY_BYTES = 64 * 1024

Record = tuple[bytes, bytes]  # event name (b"" when the stream gives none), data

# One C-speed pass over a read that is nothing but "event:" and "data:" pairs (Anthropic, OpenAI
# Responses). Exact: every event found accounts for three LFs, any other line would add to them.
_find_pairs = re.compile(rb"^event: (.*)\ndata: (.*)\n\n", re.MULTILINE).findall


class SSEParser:
    """Server-sent events (WHATWG): LF, CRLF or CR; comments skipped; data lines joined by LF.

    `stray` keeps the lines that are no field: Gemini may end a stream with bare JSON. The first 64
    KiB of them are kept.
    """

    def __init__(self, max_bytes: int = MAX_RECORD_BYTES) -> None:
        self._tail = bytearray()
        self._searched = 0
        self._carriage = False
        self._first = True
        self._max = max_bytes
        self.stray = bytearray()

    def feed(self, data: bytes) -> list[Record]:
        """Returns the events that `data` completes. Raises GatewayError 502: above the limit."""
        if not self._tail and not self._carriage and data.endswith((b"\n\n", b"\r\n\r\n")):
            # The usual read: whole events, nothing kept. One scan for line ends is all it needs.
            records = _plain_records(data.splitlines())
            if records is not None:
                self._first = False
                if BACKSLASH in data and may_hold_halves(data):
                    return self._mended(records)
                return records
        if self._first and data:
            data = self._without_bom(data)
        if self._carriage or b"\r" in data:
            data = self._as_lf(data)
        tail = self._tail
        if not tail and data.endswith(b"\n\n"):  # the usual read: whole events, nothing kept
            records = self._records(data)
            if BACKSLASH in data and may_hold_halves(data):
                return self._mended(records)
            return records
        tail += data
        end = tail.rfind(b"\n\n", self._searched)
        if end < 0:
            if len(tail) > self._max:
                raise bad_response("The upstream sent an event above the size limit.")
            self._searched = max(len(tail) - 1, 0)
            return []
        whole = bytes(tail[: end + 2])
        del tail[: end + 2]
        self._searched = max(len(tail) - 1, 0)
        records = self._records(whole)
        return self._mended(records) if may_hold_halves(whole) else records

    def finish(self) -> list[Record]:
        """Returns the events after the last blank line, as if the upstream had ended them."""
        rest = bytes(self._tail) + (b"\n" if self._carriage else b"")
        self._tail.clear()
        self._searched, self._carriage = 0, False
        records = self._records(rest) if rest else []
        return self._mended(records, is_end=True) if may_hold_halves(rest) else records

    def _mended(self, records: list[Record], *, is_end: bool = False) -> list[Record]:
        """Joins halves of surrogate pairs. An event that ends in a half is kept as unread bytes,
        until the next one comes."""
        data, waits = mend_all([data for _, data in records], is_end=is_end)
        if waits:
            name, last = records.pop()[0], data.pop()
            lines = b"\ndata: ".join(last.split(b"\n"))
            head = b"event: %b\n" % name if name else b""
            unread = head + b"data: " + lines + b"\n\n"
            self._tail[:0] = unread
            self._searched += len(unread)
        return [(name, mended) for (name, _), mended in zip(records, data, strict=True)]

    def _without_bom(self, data: bytes) -> bytes:
        head = bytes(self._tail) + data
        if len(head) < 3 and b"\xef\xbb\xbf".startswith(head):
            self._tail[:] = b""
            self._tail += head[: len(head)]
            return b""
        self._first = False
        self._tail.clear()
        return head[3:] if head.startswith(b"\xef\xbb\xbf") else head

    def _as_lf(self, data: bytes) -> bytes:
        # A CR at the end of a read is kept: the next read may begin with its LF.
        if self._carriage:
            if not data:
                return data
            data = data if data.startswith(b"\n") else b"\n" + data
            self._carriage = False
        if data.endswith(b"\r"):
            self._carriage = True
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _records(self, whole: bytes) -> list[Record]:
        if whole.startswith(b"event: ") and whole.endswith(b"\n"):
            pairs: list[Record] = _find_pairs(whole)
            if len(pairs) * 3 == whole.count(b"\n"):
                return pairs
        records = []
        for block in whole.split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                records.append((b"", block[6:]))
            elif block.startswith(b"event: "):
                line = block.find(b"\n")
                if block.startswith(b"data: ", line + 1) and block.find(b"\n", line + 1) < 0:
                    records.append((block[7:line], block[line + 7 :]))
                else:
                    self._slow(block, records)
            elif block:
                self._slow(block, records)
        return records

    def _slow(self, block: bytes, records: list[Record]) -> None:
        event, data = b"", []
        for line in block.split(b"\n"):
            name, colon, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value
            elif not line or not name or (colon and name in (b"id", b"retry")):
                continue
            elif len(self.stray) + len(line) < MAX_STRAY_BYTES:
                self.stray += line + b"\n"
        if data:
            records.append((event, b"\n".join(data)))


def _plain_records(lines: list[bytes]) -> list[Record] | None:
    """Events of nothing but `event: ` and single `data: ` lines; None for anything else."""
    if len(lines) == 2 and lines[0][:6] == b"data: " and not lines[1]:
        return [(b"", lines[0][6:])]
    records: list[Record] = []
    event, data = b"", None
    for line in lines:
        if line[:6] == b"data: " and data is None:
            data = line[6:]
        elif not line:
            if data is not None:
                records.append((event, data))
                data = None
            event = b""
        elif line[:7] == b"event: ":
            event = line[7:]
        else:
            return None
    return records


class RecordParser:
    """Records that each end with a separator byte (SignalR: 0x1e)."""

    def __init__(self, separator: bytes = b"\x1e", max_bytes: int = MAX_RECORD_BYTES) -> None:
        self._separator, self._max = separator, max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the records that `data` completes, without empty ones.

        Raises GatewayError 502: too large.
        """
        first, *rest = data.split(self._separator)
        self._parts.append(first)
        self._size += len(first)
        if self._size > self._max:
            raise bad_response("The upstream sent a record above the size limit.")
        if not rest:
            return []
        whole = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._size = [rest[-1]], len(rest[-1])
        return [mend(record) for record in whole if record]

    def finish(self) -> bytes:
        """Returns the record that has no separator yet, b"" if there is none."""
        rest = b"".join(self._parts)
        self._parts, self._size = [], 0
        return rest


# Skip what changes no state, in C.
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL).match
_OUTSIDE = re.compile(rb'[^"{}\]]*+').match


class JsonArrayParser:
    """The objects of one JSON array, as they become complete; also a bare object.

    Only braces outside strings are counted: a JSON decoder checks the objects. One above
    `max_bytes` is an error; with `skip_large` it is left out, without being held.
    """

    def __init__(self, max_bytes: int = MAX_RECORD_BYTES, *, skip_large: bool = False) -> None:
        self._buffer = bytearray()
        self._at = 0  # scanned up to here
        self._depth = 0
        self._start = -1
        self._in_string = False
        self._max, self._skip_large = max_bytes, skip_large
        self._skipping = False
        self._waiting: list[bytes] = []  # an object that ends in half a surrogate pair
        self.skipped = 0
        self.ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the objects that `data` completes, in order.

        Raises GatewayError 502: too large.
        """
        buffer = self._buffer
        buffer += data
        whole, at, end = [], self._at, len(buffer)
        while at < end:
            if self._in_string:
                at = _IN_STRING(buffer, at).end()  # type: ignore[union-attr]
                if at == end or buffer[at] != 0x22:  # an escape may be cut after its backslash
                    break
                self._in_string = False
                at += 1
                continue
            at = _OUTSIDE(buffer, at).end()  # type: ignore[union-attr]
            if at == end:
                break
            byte = buffer[at]
            if byte == 0x22:
                self._in_string = True
            elif byte == 0x7B:
                if self._depth == 0:
                    self._start = at
                self._depth += 1
            elif byte == 0x7D and self._depth:
                self._depth -= 1
                if self._depth == 0:
                    if self._skipping:
                        self._skipping = False
                    else:
                        whole.append(bytes(buffer[self._start : at + 1]))
                    self._start = -1
            elif byte == 0x5D and self._depth == 0:
                self.ended = True
            at += 1
        keep = self._start if self._start >= 0 else at
        del buffer[:keep]
        self._at = at - keep
        if self._start >= 0:
            self._start = 0
        if len(buffer) > self._max:
            if not self._skip_large:
                raise bad_response("The upstream sent an object above the size limit.")
            self._skipping, self._start = True, -1
            self.skipped += 1
            del buffer[: self._at]
            self._at = 0
        if self._waiting or any(map(may_hold_halves, whole)):
            return self._mended(whole)
        return whole

    def _mended(self, whole: list[bytes]) -> list[bytes]:
        whole, waits = mend_all(self._waiting + whole, is_end=self.ended)
        self._waiting = [whole.pop()] if waits else []
        return whole

    def finish(self) -> list[bytes]:
        """Returns an object that was kept because it ends in half a surrogate pair."""
        rest, self._waiting = [mend(data) for data in self._waiting], []
        return rest

    @property
    def open(self) -> bool:
        """Whether an object has begun and not ended."""
        return self._depth > 0
