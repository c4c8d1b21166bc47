"""The beginning of a stream: whether its events hold any content yet.

Until text, thinking or a tool call was sent, a stream that breaks off can be answered by another
key, unseen by the caller. An event that is not known to be empty counts as content: nothing is held
back on a guess.
"""

import re
from enum import IntEnum
from typing import Any

from app.wire.framing import SSEParser
from app.wire.stream_end import decoded, event_error, stray_errors

# So much of a stream without content is held back; then it is passed on as it is.
MAX_HELD_BYTES = 64 * 1024


class Stage(IntEnum):
    """How far a stream has come."""

    WAITING = 0  # comments at most
    BEGUN = 1  # an event without content
    SAID = 2  # content


_is_text = re.compile(rb'"delta": ?\{"content": ?"[^"]').search
_is_role = re.compile(
    rb'"delta": ?\{"role": ?"assistant", ?"content": ?""(?:, ?"refusal": ?null)?\}'
).search
_NOT_FINISHED = b'"finish_reason":null'
# Events of Anthropic and of OpenAI's Responses API that come before any content.
_BEGINNINGS = frozenset(
    ("message_start", "ping", "response.created", "response.in_progress", "response.queued")
)


def look(events: bytes) -> tuple[Stage, Any]:
    """Returns the stage that these whole events bring a stream to, and their error or None.

    Knows chat chunks and the streams of Messages, Responses and generateContent.
    """
    if b"error" not in events:  # most of them are recognised without decoding their JSON
        if _is_text(events):
            return Stage.SAID, None
        if _is_role(events) and events.count(b'"delta"') == 1 and _NOT_FINISHED in events:
            return Stage.BEGUN, None
    parser, stage = SSEParser(), Stage.WAITING
    records = parser.feed(events)
    for record in records:
        value = decoded(record)
        if error := event_error(record, value):
            return stage, error
        stage = Stage.SAID if _has_content(record[1], value) else Stage.BEGUN
        if stage is Stage.SAID:
            last = records[-1]
            return stage, None if last is record else event_error(last, decoded(last))
    for record in stray_errors(parser):
        return stage, event_error(record, decoded(record))
    return stage, None


def _has_content(data: bytes, value: Any) -> bool:
    if not isinstance(value, dict):
        return data.strip() != b"[DONE]"  # a mark: alone it is no answer
    if isinstance(choices := value.get("choices"), list):
        return any(map(_choice_has_content, choices))
    if isinstance(candidates := value.get("candidates"), list):
        return any(map(_candidate_has_content, candidates)) or bool(value.get("promptFeedback"))
    if value.get("type") == "content_block_start":
        block = value.get("content_block")
        return not isinstance(block, dict) or any(
            member for name, member in block.items() if name != "type"
        )
    return value.get("type") not in _BEGINNINGS


def _choice_has_content(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or choice.get("finish_reason"):
        return True
    return any(member for name, member in delta.items() if name != "role")


def _candidate_has_content(candidate: Any) -> bool:
    if not isinstance(candidate, dict) or candidate.get("finishReason"):
        return True
    content = candidate.get("content") or {}
    return not isinstance(content, dict) or bool(content.get("parts"))
