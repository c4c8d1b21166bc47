"""Observes a forwarded answer while it passes: its tokens, and how its stream ended."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from app.clients.decompress import Inflate
from app.wire.errors import GatewayError
from app.wire.events import Usage
from app.wire.stream_end import Tail, failure, finished, is_done, usage_in

_HEAD_BYTES = 16 * 1024  # usage may stand at the start of a JSON answer
# In the last events of a stream: what it counts there is all that it has said.
_COUNTS_ALL = re.compile(
    rb'"message_delta"|"response\.(?:completed|incomplete|failed)"|"finishReason"'
).search
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,128})"').search


class AnswerObserver:
    """Reads along in an answer that is delivered as it comes.

    Only the start and the last events are kept. An answer whose content encoding cannot be undone
    passes unread: it has no usage, and it counts as whole.
    """

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
        """Takes the next piece of the body, as it came from the upstream."""
        if not self._readable:
            return
        if self._inflate is not None:
            try:
                data = self._inflate.feed(data)
            except GatewayError:
                self._readable = False  # the caller will find out for themselves
                return
        if len(self._head) < _HEAD_BYTES:
            self._head += data[:_HEAD_BYTES]
        self._tail.add(data)

    def usage(self) -> Usage | None:
        """The tokens that the answer counts, None if it counts none."""
        return usage_in(self._tail.bytes(), self._head) if self._readable else None

    def counts_all(self) -> bool:
        """Whether a stream has told its last counts, whatever comes behind them."""
        last = self._tail.bytes()
        return is_done(last) or _COUNTS_ALL(last) is not None

    def model(self) -> str:
        """The model that the answer names at its start, "" for none."""
        found = _MODEL(self._head) if self._readable else None
        return found[1].decode("utf-8", "replace") if found else ""

    def ending(self) -> tuple[Any, bool]:
        """The error that the stream tells (None for none), and whether the stream is whole."""
        if not self._readable or not self.is_stream:
            return None, True
        text, records = self._tail.bytes(), self._tail.records()
        if told := failure(records):
            return told, False
        if not self._is_chat or is_done(text):
            return None, True
        seen, ended = finished(records)
        return None, bool(ended) and seen == ended
