"""How a stream begins: whether anything of an answer was said, or only that one is to come.

Until text, thinking or a call was told, a stream that breaks off can be answered by another key
unseen. What is not known to be empty counts as said: nothing is held back on a guess.
"""

import re
from enum import IntEnum
from typing import Any

from app.wire.framing import SSEParser
from app.wire.stream_end import decoded, stray_errors, told_error

# So much of a stream that says nothing is held back; then it is passed on as it is.
MAX_HELD_BYTES = 64 * 1024


class Stage(IntEnum):
    WAITING = 0  # comments at most
    BEGUN = 1  # an event, with nothing in it for a reader
    SAID = 2


_is_text = re.compile(rb'"delta": ?\{"content": ?"[^"]').search
_is_role = re.compile(
    rb'"delta": ?\{"role": ?"assistant", ?"content": ?""(?:, ?"refusal": ?null)?\}'
).search
_NOT_FINISHED = b'"finish_reason":null'
# Events of Anthropic's and of OpenAI's Responses that come before anything is said.
_BEGINNINGS = frozenset(
    ("message_start", "ping", "response.created", "response.in_progress", "response.queued")
)


def look(events: bytes) -> tuple[Stage, Any]:
    """How far these whole events bring a stream, and the error they tell, if any.

    Chat chunks are known, and the streams of the raw paths: Messages, Responses, generateContent.
    """
    if b'"error"' not in events:  # by far the most, told without reading their JSON
        if _is_text(events):
            return Stage.SAID, None
        if _is_role(events) and events.count(b'"delta"') == 1 and _NOT_FINISHED in events:
            return Stage.BEGUN, None
    parser, stage = SSEParser(), Stage.WAITING
    records = parser.feed(events)
    for record in records:
        value = decoded(record)
        if told := told_error(record, value):
            return stage, told
        stage = Stage.SAID if _says(value) else Stage.BEGUN
        if stage is Stage.SAID:
            last = records[-1]
            return stage, None if last is record else told_error(last, decoded(last))
    for record in stray_errors(parser):
        return stage, told_error(record, decoded(record))
    return stage, None


def _says(value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    if isinstance(choices := value.get("choices"), list):
        return any(map(_choice_says, choices))
    if isinstance(candidates := value.get("candidates"), list):
        return any(map(_candidate_says, candidates)) or bool(value.get("promptFeedback"))
    if value.get("type") == "content_block_start":
        block = value.get("content_block")
        return not isinstance(block, dict) or any(
            said for name, said in block.items() if name != "type"
        )
    return value.get("type") not in _BEGINNINGS


def _choice_says(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or choice.get("finish_reason"):
        return True
    return any(said for name, said in delta.items() if name != "role")


def _candidate_says(candidate: Any) -> bool:
    if not isinstance(candidate, dict) or candidate.get("finishReason"):
        return True
    content = candidate.get("content") or {}
    return not isinstance(content, dict) or bool(content.get("parts"))
