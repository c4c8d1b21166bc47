"""Responses' input items as the neutral list of messages.

Neighbouring things of the assistant (thoughts, texts, calls) are one message. The outputs of its
calls follow right behind it, in the order of the calls, wherever they stand in the input; what the
user said in between comes after them. Protocol sheet: front-responses, 3.2 and 4.4.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.fronts.openai_responses.calls import CALLS, OUTPUTS, call_of, output_of
from app.fronts.openai_responses.content import parts_of, texts_of
from app.fronts.openai_responses.schema import Item, Part, Reasoning, Text, decoded
from app.fronts.openai_responses.tools import Placed, placed
from app.fronts.tool_round import current_round
from app.wire.chat import FunctionCall, Message, ToolCallRequest
from app.wire.errors import bad_request
from app.wire.signature_mark import read_mark

NO_RESULT = "no result"
_SUMMARY = "Summary of the conversation so far:\n"
_UNREADABLE = (
    "[An earlier part of this conversation was compacted by another model and cannot be read.]"
)
# Ran at OpenAI: nobody else can be told of them as calls.
_HOSTED = frozenset(
    (
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "computer_call",
        "computer_call_output",
        "mcp_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "program",
        "program_output",
    )
)


class Talk(Struct):
    """What the items say."""

    messages: list[Message] = []
    input: list[Raw] = []  # this turn's own items, with what its references stand for
    added: list[Placed] = []  # tools of items, which are as good as those beside the input
    found: list[Placed] = []  # tools that a search has brought in
    dropped: list[str] = []
    reasoning: Reasoning | None = None  # of the last configuration_update
    text: Text | None = None
    compacts: bool = False  # the answer is to be a summary


class _Call(Struct):
    """A call of the run that is being read; `sent` is its id upstream."""

    sent: str
    result: Message | None = None


class _Run(Struct):
    """The neighbouring items of one assistant message."""

    texts: list[str] = []
    thoughts: list[str] = []
    blocks: list[dict[str, Any]] = []  # Claude's, not yet given to a call
    first_blocks: list[dict[str, Any]] | None = None
    signature: str | None = None  # Gemini's, of the thought before the next call
    calls: list[ToolCallRequest] = []
    answered: list[_Call] = []


def read_items(before: list[Raw], items: list[Raw], references: Mapping[str, Raw]) -> Talk:
    """The neutral messages of kept turns and of this one. `references` are kept items by their id.

    Raises GatewayError 400 for what only OpenAI has, and for outputs of no call.
    """
    return _Reader(references).read(before, items)


class _Reader:
    """Reads one input. Outputs are looked up by the calls they belong to."""

    def __init__(self, references: Mapping[str, Raw]) -> None:
        self.talk = Talk()
        self._references = references
        self._run = _Run()
        self._outputs: dict[str, list[Message]] = defaultdict(list)  # by call id, in order
        self._taken: set[str] = set()
        self._is_current = False  # the round of tools that the answer will go on with

    def read(self, before: list[Raw], raws: list[Raw]) -> Talk:
        items = [(path, self._item(raw, path)) for path, raw in _numbered("kept", before)]
        items += [(path, self._own_item(raw, path)) for path, raw in _numbered("input", raws)]
        self.talk.compacts = bool(raws) and items[-1][1].type == "compaction_trigger"
        self._collect_outputs(items)
        begin = current_round(_is_question(item) for _, item in items)
        for at, (path, item) in enumerate(items):
            self._is_current = at >= begin
            self._take(path, item)
        self._end_run()
        return self.talk

    def _item(self, raw: Raw, path: str) -> Item:
        item: Item = decoded(raw, Item, path)
        return item

    def _own_item(self, raw: Raw, path: str) -> Item:
        """The item, or the kept one that it refers to."""
        item = self._item(raw, path)
        if item.type == "item_reference":
            kept = self._references.get(item.id or "")
            if kept is None:
                raise bad_request(
                    f"Item with id {(item.id or '')[:128]!r} not found. Items are kept only of "
                    "answers with `store` on, for a while; send the items themselves.",
                    f"{path}.id",
                )
            raw, item = kept, self._item(kept, path)
        self.talk.input.append(raw)
        return item

    def _drop(self, name: str) -> None:
        if name not in self.talk.dropped:
            self.talk.dropped.append(name)

    # --- outputs --------------------------------------------------------------------------------

    def _collect_outputs(self, items: list[tuple[str, Item]]) -> None:
        """Finds the call of each output. Raises GatewayError 400 where there is none."""
        calls = [item for _, item in items if item.type in CALLS]
        known = {_call_id(item) for item in calls}
        open_names = [(item.name, _call_id(item)) for item in calls]
        for path, item in items:
            if item.type not in OUTPUTS or item.execution == "server":
                continue
            wanted = _call_id(item)
            if not item.call_id and item.name:
                same = [each for each in open_names if each[0] == item.name]
                if same:
                    open_names.remove(same[0])
                    wanted = same[0][1]
            if wanted not in known:
                raise bad_request(
                    f"No tool call found for function call output with call_id {wanted[:128]}.",
                    f"{path}.call_id",
                )
            self._outputs[wanted].append(output_of(item, path))

    # --- one item after the other ---------------------------------------------------------------

    def _take(self, path: str, item: Item) -> None:
        kind = item.type or "message"
        if kind in CALLS:
            if item.execution != "server":
                self._call(path, item)
        elif kind == "reasoning":
            self._reasoning(path, item)
        elif kind == "message" and item.role == "assistant":
            self._run.texts += texts_of(item, path)
            self._run.first_blocks = self._take_blocks(self._run.first_blocks)
        else:
            self._end_run()
            self._take_other(kind, path, item)

    def _take_other(self, kind: str, path: str, item: Item) -> None:
        talk = self.talk
        match kind:
            case "message":
                self._message(path, item)
            case "additional_tools":
                talk.added += placed(item.tools, f"{path}.tools")
            case "tool_search_output":
                talk.found += placed(item.tools, f"{path}.tools")
            case _ if kind in OUTPUTS:
                pass  # told behind its call
            case "configuration_update":
                talk.reasoning = decoded(item.reasoning, Reasoning, path) or talk.reasoning
                talk.text = decoded(item.text, Text, path) or talk.text
            case "compaction":
                talk.messages.append(Message("user", self._compacted(item)))
            case "compaction_trigger":
                pass  # the last item, or long answered
            case _ if kind in _HOSTED:
                self._drop(f"input[].{kind}")
                if text := _said_by_hosted(item):
                    talk.messages.append(Message("assistant", text))
            case _:
                self._drop(f"input[].{kind[:64]}")

    def _message(self, path: str, item: Item) -> None:
        role = item.role
        if role in ("system", "developer"):
            text = "\n".join(texts_of(item, path))
            late = any(message.role != "system" for message in self.talk.messages)
            if text:
                self.talk.messages.append(Message("system", text, keeps_place=late))
        elif role == "user":
            parts = parts_of(item.content, f"{path}.content")
            if len(parts) == 1 and parts[0].type == "text":
                self.talk.messages.append(Message("user", parts[0].text))
            elif parts:
                self.talk.messages.append(Message("user", parts))
        else:
            raise bad_request(
                f"{path}.role: must be user, assistant, system or developer.", f"{path}.role"
            )

    def _compacted(self, item: Item) -> str:
        found = read_mark(item.encrypted_content or "")
        if found is not None and found[0] == "s":
            return _SUMMARY + found[1]
        self._drop("input[].compaction")
        return _UNREADABLE

    # --- the assistant's ------------------------------------------------------------------------

    def _reasoning(self, path: str, item: Item) -> None:
        run = self._run
        summary: list[Part] = decoded(item.summary, list[Part] | None, f"{path}.summary") or []
        text = "\n\n".join(part.text for part in summary if part.text)
        if not item.encrypted_content:
            said: list[Part] = decoded(item.content, list[Part] | None, f"{path}.content") or []
            run.thoughts.append("".join(part.text or "" for part in said) or text)
            return
        found = read_mark(item.encrypted_content)
        if found is None or found[0] not in ("c", "g", "t"):
            if text:  # of a thought that only its own house can read
                self._drop("input[].reasoning")
            return
        kind, payload = found
        run.thoughts.append(text)
        if kind == "c":
            run.blocks += _claude_blocks(payload)
        elif kind == "g":
            run.signature = payload

    def _take_blocks(self, held: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
        """Claude's blocks so far, behind those that are `held`."""
        blocks, self._run.blocks = self._run.blocks, []
        return [*(held or ()), *blocks]

    def _call(self, path: str, item: Item) -> None:
        run = self._run
        given = _call_id(item)
        name, arguments = call_of(item, path)
        sent = given
        if not given or given in self._taken:
            sent = "call_" + sha256(f"{len(self._taken)} {given}".encode()).hexdigest()[:24]
        self._taken.add(sent)
        call = ToolCallRequest(sent, function=FunctionCall(name, arguments))
        if run.signature is not None:
            call.extra_content = {"google": {"thought_signature": run.signature}}
            run.signature = None
        if run.first_blocks is None:
            run.first_blocks = self._take_blocks(None)
        else:
            call.thinking_blocks = self._take_blocks(None) or None
        run.calls.append(call)
        outputs = self._outputs.get(given)
        run.answered.append(_Call(sent, outputs.pop(0) if outputs else None))

    def _end_run(self) -> None:
        """Tells the assistant's message, and behind it the results of its calls."""
        run, self._run = self._run, _Run()
        text = "".join(run.texts)
        if not text and not run.calls:
            return  # thoughts alone are no message
        thought = "".join(run.thoughts) if self._is_current else ""
        self.talk.messages.append(
            Message(
                "assistant",
                text or None,
                tool_calls=run.calls or None,
                reasoning_content=thought or None,
                thinking_blocks=run.first_blocks or None,
            )
        )
        for call in run.answered:
            result = call.result or Message("tool", NO_RESULT)
            result.tool_call_id = call.sent
            self.talk.messages.append(result)


def _numbered(name: str, raws: list[Raw]) -> Iterator[tuple[str, Raw]]:
    return ((f"{name}[{index}]", raw) for index, raw in enumerate(raws))


def _is_question(item: Item) -> bool:
    return item.type in (None, "message") and item.role == "user"


def _call_id(item: Item) -> str:
    return item.call_id or item.id or ""


def _claude_blocks(payload: str) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(payload, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError):
        return []


class _Output(Struct):
    type: str = ""
    logs: str | None = None


def _said_by_hosted(item: Item) -> str:
    """What a tool that ran at OpenAI has said in words; "" for nothing."""
    try:
        if item.type == "mcp_call":
            return msgspec.json.decode(bytes(item.output) or b'""', type=str | None) or ""
        if item.type == "code_interpreter_call":
            outputs: Iterable[_Output] = (
                msgspec.json.decode(bytes(item.outputs) or b"[]", type=list[_Output] | None) or ()
            )
            return "\n".join(output.logs for output in outputs if output.logs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return ""
