"""OpenAI's list of messages as Claude's messages.

Claude demands strictly alternating roles, a user first, no empty text, and the results of tool
calls at the head of the next message. Any list is brought into this form, or refused with 400.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from app.wire.chat import FunctionCall, ImageUrl, Message, Part
from app.wire.errors import bad_request
from app.wire.provider import Call
from app.wire.signature_mark import START
from app.wire.surrogates import mend
from app.wire.tool_names import ToolNames
from providers.claude.attachments import document, image
from providers.claude.parameters import drop
from providers.claude.schema import (
    Block,
    MessageParam,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

_NO_RESULT = "no result"
_NEUTRAL_OPENING = "."
_ODD_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


class Conversation:
    """Converts OpenAI's messages one by one.

    An assistant's turn stays open for its results: they come first in the user's turn, in the
    order of the calls, whatever stood between them in the caller's list.
    """

    def __init__(self, call: Call, names: ToolNames) -> None:
        self.system: list[TextBlock] = []
        self.tool_names: list[str] = []
        self._call, self._names = call, names
        self._turns: list[MessageParam] = []
        self._asked: dict[str, str] = {}  # the caller's tool call id -> the id sent, this turn
        self._legacy: list[tuple[str, str]] = []  # unanswered (name, id sent) of function_call
        self._results: dict[str, ToolResultBlock] = {}
        self._said: list[Block] = []  # what the user says after the results
        self._ids: set[str] = set()
        self._heard_user = False

    def add(self, message: Message, at: str) -> None:
        """Adds the next message; `at` is its path for error messages.

        Raises GatewayError 400 for a message that Claude cannot be given.
        """
        match message.role:
            case "system" | "developer" if message.keeps_place and self._has_answered():
                if text := message.reminder():
                    self._said.append(TextBlock(text))
            case "system" | "developer":
                self._add_system(message, at)
            case "user":
                self._heard_user = True
                blocks = self._content(message.parts(), f"{at}.content")
                self._mark_last(blocks, message.cache_control)
                self._said += blocks
            case "assistant":
                self._add_assistant(message, at)
            case "tool":
                self._add_result(message, at)
            case "function":
                self._add_function_result(message, at)
            case _:
                raise bad_request(
                    "role must be system, developer, user, assistant, tool or function.",
                    param=f"{at}.role",
                )

    def end(self) -> tuple[list[MessageParam], bool]:
        """The turns, and whether the last one is the beginning of the answer (a prefill)."""
        self._close_user(final=True)
        turns = self._turns
        if not turns and self.system:
            # OpenAI answers a lone system message, Claude only a user.
            turns.append(MessageParam("user", [*self.system]))
            self.system, self._heard_user = [], True
        if not self._heard_user or not any(turn.role == "user" for turn in turns):
            raise bad_request("messages must contain a user message with text.", param="messages")
        if turns[0].role == "assistant":
            turns.insert(0, MessageParam("user", [TextBlock(_NEUTRAL_OPENING)]))
        last = turns[-1]
        if last.role != "assistant":
            return turns, False
        # Neither thinking nor trailing blanks may stand at the end of a prefill.
        begun = [block for block in last.content if isinstance(block, TextBlock)]
        begun[-1] = TextBlock(begun[-1].text.rstrip(), begun[-1].cache_control)
        last.content = [*begun]
        return turns, True

    def _has_answered(self) -> bool:
        return any(turn.role == "assistant" for turn in self._turns)

    def _add_system(self, message: Message, at: str) -> None:
        blocks: list[Block] = []
        text = ""
        parts = message.parts()
        for index, part in enumerate(parts):
            if part.type != "text":
                raise bad_request(
                    f"A {message.role} message may hold text only.",
                    param=f"{at}.content[{index}].type",
                )
            # One block reaches to a mark or to the end of the message.
            text += part.text or ""
            if part.cache_control is not None or index == len(parts) - 1:
                self._add_text(blocks, text, part.cache_control)
                text = ""
        self._mark_last(blocks, message.cache_control)
        self.system += [block for block in blocks if isinstance(block, TextBlock)]

    def _add_assistant(self, message: Message, at: str) -> None:
        blocks: list[Block] = []
        for index, part in enumerate(message.parts()):
            if part.type not in ("text", "refusal"):
                raise bad_request(
                    "An assistant message may hold text and refusal parts only.",
                    param=f"{at}.content[{index}].type",
                )
            text = part.text if part.type == "text" else part.refusal
            self._add_text(blocks, text, part.cache_control)
        if message.refusal and message.refusal.strip():
            blocks.append(TextBlock(message.refusal))
        calls: list[tuple[str, str | None, FunctionCall | None]] = []
        thoughts: dict[str, list[Block]] = {}  # the path of a call -> what was thought before it
        for index, tool_call in enumerate(message.tool_calls or ()):
            where = f"{at}.tool_calls[{index}]"
            if tool_call.type != "function":
                raise bad_request("Only calls of functions are known.", param=f"{where}.type")
            if not tool_call.id:
                raise bad_request("A tool call needs its id.", param=f"{where}.id")
            calls.append((f"{where}.function", tool_call.id, tool_call.function))
            thoughts[f"{where}.function"] = _thinking_blocks(tool_call.thinking_blocks)
        if message.function_call is not None:
            calls.append((f"{at}.function_call", None, message.function_call))
        if not blocks and not calls:
            return  # nothing said; thinking alone may not be a message
        self._close_user()
        blocks = [*_thinking_blocks(message.thinking_blocks), *blocks]
        for where, call_id, function in calls:
            blocks += thoughts.get(where, ())
            blocks.append(self._tool_use(where, call_id, function))
        self._mark_last(blocks, message.cache_control)
        if self._turns and self._turns[-1].role == "assistant":
            self._turns[-1].content += blocks
        else:
            self._turns.append(MessageParam("assistant", blocks))

    def _tool_use(self, at: str, call_id: str | None, function: FunctionCall | None) -> Block:
        if function is None or not function.name:
            raise bad_request("A tool call needs the name of its function.", param=f"{at}.name")
        sent = self._fresh_id(call_id or f"toolu_{self._call.new_id()[8:]}")
        if call_id is None:
            self._legacy.append((function.name, sent))
        elif call_id in self._asked:
            raise bad_request(
                "Two tool calls of one turn have the same id.",
                param=at.removesuffix(".function") + ".id",
            )
        self._asked[call_id or sent] = sent
        name = self._names.sent(function.name)
        if name not in self.tool_names:
            self.tool_names.append(name)
        return ToolUseBlock(sent, name, _arguments(function.arguments, f"{at}.arguments"))

    def _fresh_id(self, call_id: str) -> str:
        # Claude takes few characters in an id and wants each but once in a request; other
        # upstreams, from which a history may come, are less strict.
        clean = sent = _ODD_IN_ID.sub("_", call_id)
        count = 1
        while sent in self._ids:
            count += 1
            sent = f"{clean}_{count}"
        self._ids.add(sent)
        return sent

    def _add_result(self, message: Message, at: str) -> None:
        sent = self._asked.get(message.tool_call_id or "")
        if sent is None:
            raise bad_request(
                "tool_call_id must be the id of a tool call in the assistant message before it.",
                param=f"{at}.tool_call_id",
            )
        self._answer(sent, message, at, f"{at}.tool_call_id")

    def _add_function_result(self, message: Message, at: str) -> None:
        for pending in self._legacy:
            if pending[0] == message.name:
                self._legacy.remove(pending)
                self._answer(pending[1], message, at, f"{at}.name")
                return
        raise bad_request(
            "name must be that of the function called in the assistant message before it.",
            param=f"{at}.name",
        )

    def _answer(self, sent: str, message: Message, at: str, param: str) -> None:
        if sent in self._results:
            raise bad_request("This tool call has a result already.", param=param)
        self._heard_user = True
        mark = message.cache_control
        if isinstance(message.content, list):
            blocks = self._content(message.content, f"{at}.content")
            for block in blocks:  # what stands inside a result cannot be marked, the result can
                if block.cache_control is not None:
                    mark, block.cache_control = block.cache_control, None
            content: Any = blocks or None
        else:
            content = message.content if message.content and message.content.strip() else None
        self._results[sent] = ToolResultBlock(sent, content, mark, message.is_error)

    def _close_user(self, final: bool = False) -> None:
        """Ends a user message that has begun; with `final`, adds the results that are missing."""
        if not self._results and not self._said and not final:
            return
        blocks: list[Block] = [
            self._results.get(sent) or ToolResultBlock(sent, _NO_RESULT)
            for sent in self._asked.values()
        ]
        blocks += self._said
        if blocks:
            self._turns.append(MessageParam("user", blocks))
        self._asked, self._legacy, self._results, self._said = {}, [], {}, []

    def _add_text(self, blocks: list[Block], text: str | None, mark: dict[str, Any] | None) -> None:
        """Adds text unless it is blank; a blank text's cache mark moves to the block before."""
        if text and text.strip():
            blocks.append(TextBlock(text, mark))
        else:
            self._mark_last(blocks, mark)

    def _mark_last(self, blocks: list[Block], mark: dict[str, Any] | None) -> None:
        if mark is None:
            return
        if not blocks or isinstance(blocks[-1], ThinkingBlock | RedactedThinkingBlock):
            drop(self._call, "cache_control")
        elif blocks[-1].cache_control is None:
            blocks[-1].cache_control = mark

    def _content(self, parts: list[Part], at: str) -> list[Any]:
        blocks: list[Any] = []
        for index, part in enumerate(parts):
            where = f"{at}[{index}]"
            match part.type:
                case "text":
                    self._add_text(blocks, part.text, part.cache_control)
                    continue
                case "image_url":
                    if isinstance(part.image_url, ImageUrl) and part.image_url.detail not in (
                        None,
                        "auto",
                    ):
                        drop(self._call, "image_url.detail")
                    blocks.append(image(part, f"{where}.image_url"))
                case "file":
                    blocks.append(document(part.file, f"{where}.file"))
                case "input_audio":
                    raise bad_request("Claude takes no audio.", param=f"{where}.type")
                case _:
                    raise bad_request(
                        "A part must be of type text, image_url or file.", param=f"{where}.type"
                    )
            blocks[-1].cache_control = part.cache_control
        return blocks


def _arguments(said: str | None, at: str) -> Raw:
    text = mend(((said or "").strip() or "{}").encode())
    try:
        msgspec.json.decode(text, type=dict[str, Raw])
        return Raw(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise bad_request("arguments must be a JSON object as text.", param=at) from None


def _thinking_blocks(given: list[dict[str, Any]] | None) -> list[Block]:
    """The caller's `thinking_blocks` that can be sent back: those with a signature of Claude's."""
    blocks: list[Block] = []
    for block in given or ():
        match block:
            case {"type": "redacted_thinking", "data": str(data)} if data:
                blocks.append(RedactedThinkingBlock(data))
            case {"type": "thinking", "thinking": str(text), "signature": str(signature)} if (
                signature and not signature.startswith(START)
            ):
                blocks.append(ThinkingBlock(text, signature))
    return blocks
