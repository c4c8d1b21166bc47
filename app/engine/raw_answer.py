"""A raw answer, glanced at while it passes."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from app.clients.decompress import Inflate
from app.wire.errors import GatewayError
from app.wire.events import Usage
from app.wire.stream_end import Tail, failure, finished, is_done, usage_in

_USAGE_BYTES = 16 * 1024


class Reading:
    """A raw answer, glanced at while it passes: what it counted, whether its stream is whole."""

    def __init__(self, headers: Mapping[str, str], *, is_chat: bool, max_bytes: int) -> None:
        self.is_stream = "event-stream" in headers.get("content-type", "")
        self._is_chat = is_chat
        encoding = headers.get("content-encoding", "identity").strip().lower()
        self._readable = True
        self._inflate: Inflate | None = None
        if encoding not in ("", "identity"):
            with suppress(GatewayError):
                self._inflate = Inflate(encoding, max_bytes)
            self._readable = self._inflate is not None
        self._head = b""
        self._tail = Tail()

    def add(self, data: bytes) -> None:
        if not self._readable:
            return
        if self._inflate is not None:
            try:
                data = self._inflate.feed(data)
            except GatewayError:
                self._readable = False  # the caller will find out for themselves
                return
        if len(self._head) < _USAGE_BYTES:
            self._head += data[:_USAGE_BYTES]
        self._tail.add(data)

    def usage(self) -> Usage | None:
        return usage_in(self._tail.bytes(), self._head) if self._readable else None

    def ending(self) -> tuple[Any, bool]:
        """The error that the stream told, if any; whether it is whole though it told none."""
        if not self._readable or not self.is_stream:
            return None, True
        text, records = self._tail.bytes(), self._tail.records()
        if told := failure(records):
            return told, False
        if not self._is_chat or is_done(text):
            return None, True
        seen, ended = finished(records)
        return None, bool(ended) and seen == ended
