"""Decodes claude.ai's answers: older `completion` frames, and events like the Messages API's.

Both are deltas. The newer format has blocks of the server's own tools, which are skipped, and no
token counts. Source: captures of 2023 and 2026.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.wire.errors import upstream_cut
from app.wire.events import Event, Finish, Reasoning, Session, Started, Text, Unknown
from app.wire.framing import MAX_RECORD_BYTES, SSEParser
from providers.claude import web_errors
from providers.claude.web_schema import Conversation, Frame, Summary

_QUIET = frozenset(("content_block_stop", "message_limit", "ping", "conversation_ready"))
_QUIET_DELTAS = frozenset(
    (
        "input_json_delta",
        "tool_use_block_update_delta",
        "citation_start_delta",
        "citation_end_delta",
        "flag_delta",
        "signature_delta",
    )
)
_REASONS = {"max_tokens": "length", "refusal": "content_filter"}

_frame = msgspec.json.Decoder(Frame)


def told_conversation(conversation: Conversation) -> dict[str, Any]:
    """The conversation as callers get it, to be sent back unchanged."""
    found = {name: getattr(conversation, name) or "" for name in conversation.__struct_fields__}
    if not conversation.parent_message_uuid:
        del found["parent_message_uuid"]
    return found


class WebDecoder:
    """Decodes a stream of either format. `now` is Unix seconds, for the end of a used-up limit."""

    def __init__(
        self,
        conversation: Conversation,
        model: str,
        now: int,
        max_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._records = SSEParser(max_bytes)
        self._conversation, self._model, self._now = conversation, model, now
        self._started = False
        self._anything = False
        self._said = False  # the older format's first text was told
        self._reason: str | None = None
        self._stopped = False
        self._block = "text"  # the type of the block that is open
        self._thought = False  # in this block the thinking itself came, not only its summary

    def feed(self, data: bytes) -> Iterator[Event]:
        """Decodes the next bytes of the body; any split gives the same events."""
        for _, record in self._records.feed(data):
            try:
                frame = _frame.decode(record)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield from self._unreadable(record)
                continue
            delta = frame.delta
            # The hot path: a piece of a text block that has begun, nine of ten events.
            if (
                delta is not None
                and delta.type == "text_delta"
                and frame.type == "content_block_delta"
                and self._block == "text"
                and self._started
                and frame.error is None
            ):
                if delta.text:
                    yield Text(delta.text)
            else:
                yield from self._one(frame)

    def finish(self) -> Iterator[Event]:
        """Raises GatewayError 502 when the answer was not whole."""
        for _, record in self._records.finish():
            try:
                yield from self._one(_frame.decode(record))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                yield from self._unreadable(record)
        if self._stopped:
            return
        if self._reason is None:
            stray = bytes(self._records.stray)
            if not self._anything and stray:
                raise web_errors.no_stream(stray, self._now)
            raise upstream_cut("claude.ai's answer ended in the middle")
        yield from self._end()

    def _unreadable(self, record: bytes) -> Iterator[Event]:
        error = web_errors.error_in(record)
        if error is not None:
            raise web_errors.refusal(200, error, self._now)
        if record.strip() != b"[DONE]":
            yield Unknown("unreadable")

    def _one(self, frame: Frame) -> Iterator[Event]:
        self._anything = True
        if frame.error is not None:
            raise web_errors.refusal(200, frame.error, self._now)
        match frame.type:
            case "content_block_delta":
                yield from self._delta(frame)
            case None | "completion":
                if frame.completion is not None:
                    yield from self._completion(frame.completion, frame)
            case "message_start":
                yield from self._message(frame)
            case "content_block_start":
                block = frame.content_block
                self._block, self._thought = (block.type if block else ""), False
                if block is not None and block.type == "text" and block.text:
                    yield from self._begin()
                    yield Text(block.text)
            case "message_delta":
                if frame.delta is not None and frame.delta.stop_reason is not None:
                    self._reason = frame.delta.stop_reason
            case "message_stop":
                yield from self._end()
            case other if other not in _QUIET:
                yield Unknown(other)

    def _completion(self, text: str, frame: Frame) -> Iterator[Event]:
        yield from self._begin(frame.id, frame.model)
        if text and not self._said:
            text = text.removeprefix(" ")  # the old prompt format's, not the answer's
            self._said = True
        if text:
            yield Text(text)
        if frame.stop_reason is not None:
            self._reason = frame.stop_reason
            yield from self._end()

    def _message(self, frame: Frame) -> Iterator[Event]:
        message = frame.message
        if message is None:
            return
        if message.uuid:
            self._conversation = msgspec.structs.replace(
                self._conversation,
                parent_message_uuid=message.uuid,
                model=message.model or self._conversation.model,
            )
            yield Session({"conversation": told_conversation(self._conversation)})
        yield from self._begin(message.id, message.model)

    def _delta(self, frame: Frame) -> Iterator[Event]:
        delta = frame.delta
        kind = delta.type if delta is not None else None
        if delta is None or kind in _QUIET_DELTAS:
            return
        if kind == "text_delta":
            if self._block == "text" and delta.text:
                yield from self._begin()
                yield Text(delta.text)
        elif kind == "thinking_delta":
            if delta.thinking:
                self._thought = True
                yield from self._begin()
                yield Reasoning(delta.thinking)
        elif kind == "thinking_summary_delta":
            summary = "" if self._thought else _summary(delta.summary)
            if summary:
                yield from self._begin()
                yield Reasoning(summary)
        else:
            yield Unknown(f"delta:{kind}")

    def _begin(self, id: str | None = None, model: str | None = None) -> Iterator[Event]:
        if not self._started:
            self._started = True
            yield Started(id or "", model or self._model)

    def _end(self) -> Iterator[Event]:
        if not self._stopped:
            self._stopped = True
            yield from self._begin()
            yield Finish(_REASONS.get(self._reason or "", "stop"))


def _summary(raw: Any) -> str:
    try:
        found = msgspec.convert(raw, Summary).summary
    except msgspec.ValidationError:
        return ""
    return f"{found}\n" if found else ""
