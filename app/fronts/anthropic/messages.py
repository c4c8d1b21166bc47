"""Messages' list of messages as the neutral one.

A turn's blocks are pulled apart: tool results become messages of their own, right behind the call
and in the order of the calls, whatever order they came in; what else the user said follows.
Thoughts are never turned into visible text. Protocol sheet: front-messages, 4.2 and 5.5.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from app.fronts.anthropic import schema
from app.fronts.anthropic.schema import Block
from app.fronts.anthropic.tools import definition_in, names_in
from app.fronts.tool_round import current_round
from app.wire.chat import File, FunctionCall, ImageUrl, Message, Part, ToolCallRequest
from app.wire.errors import bad_request
from app.wire.signature_mark import read_mark
from app.wire.tool_ids import original

_BILLING = "x-anthropic-billing-header:"
_NO_RESULT = "no result"
_LONGEST_ID = 64
Placed = tuple[str, Block]  # a block and its path in the body


class Talk(Struct):
    """What the messages say, and what they say of the tools."""

    messages: list[Message] = []
    found: set[str] = set()  # names of deferred tools that were brought in
    removed: set[str] = set()
    added: list[schema.Tool] = []  # defined in the middle of the conversation
    effort: str | None = None
    dropped: list[str] = []


def read_messages(system: str | list[Block] | None, messages: list[schema.Message]) -> Talk:
    """The neutral messages. Raises GatewayError 400 for what only Anthropic has."""
    return _Reader().read(system, messages)


class _Reader:
    """Reads one body. `_calls` are the calls of the last assistant turn, `_late` the system
    messages that came before their results."""

    def __init__(self) -> None:
        self.talk = Talk()
        self._calls: list[tuple[str, str]] = []  # (the caller's id, the one sent on)
        self._late: list[Message] = []
        self._is_current = False  # the tool round that the answer will go on with

    def read(self, system: str | list[Block] | None, messages: list[schema.Message]) -> Talk:
        out = self.talk.messages
        blocks = [Block("text", text=system)] if isinstance(system, str) else system or []
        for index, block in enumerate(blocks):
            text = block.text if block.type == "text" else None
            # The suffix of the first differs with each conversation and would spoil prompt caches.
            if text and not (index == 0 and text.startswith(_BILLING)):
                out.append(Message("system", text))
        runs = list(_runs(messages))
        begin = current_round(role == "user" and not _has_result(run) for role, run in runs)
        for at, (role, run) in enumerate(runs):
            self._is_current = at >= begin
            if role == "system":
                self._system(run, out)
            elif role == "user":
                self._user(run, out)
            else:
                self._close_calls({}, out)
                self._assistant(run, out)
        self._close_calls({}, out)
        for message in messages:
            if message.role == "system" and message.output_config is not None:
                self.talk.effort = message.output_config.effort or self.talk.effort
        return self.talk

    def _drop(self, name: str) -> None:
        if name not in self.talk.dropped:
            self.talk.dropped.append(name)

    # --- system ---------------------------------------------------------------------------------

    def _system(self, run: list[Placed], out: list[Message]) -> None:
        texts = []
        for _, block in run:
            if block.type == "text":
                texts.append(block.text or "")
            elif block.type == "tool_addition" and block.tool is not None:
                self._add_tool(block.tool)
            elif block.type == "tool_removal" and block.tool is not None:
                self.talk.removed.update(names_in(block.tool))
            else:
                self._drop(block.type)
        if text := "\n\n".join(filter(None, texts)):
            message = Message("system", text, keeps_place=True)
            (self._late if self._calls else out).append(message)

    def _add_tool(self, tool: dict[str, Any]) -> None:
        talk = self.talk
        defined = definition_in(tool)
        if defined is not None:
            talk.added.append(defined)
        names = {defined.name} if defined is not None else set(names_in(tool))
        talk.found |= names
        talk.removed -= names

    # --- user -----------------------------------------------------------------------------------

    def _user(self, run: list[Placed], out: list[Message]) -> None:
        results: dict[str, Message] = {}
        parts: list[Part] = []
        for path, block in run:
            if block.type != "tool_result":
                parts += self._parts(path, block)
                continue
            wanted = block.tool_use_id or ""
            same = (sent for given, sent in self._calls if given == wanted)
            sent = next((sent for sent in same if sent not in results), None)
            if sent is None:
                raise bad_request(
                    f"{path}.tool_use_id: there is no unanswered tool_use of this id in the "
                    "message before.",
                    f"{path}.tool_use_id",
                )
            results[sent] = self._result(path, block, sent)
        self._close_calls(results, out)
        if len(parts) == 1 and parts[0].type == "text":
            out.append(Message("user", parts[0].text))
        elif parts:
            out.append(Message("user", parts))

    def _close_calls(self, results: dict[str, Message], out: list[Message]) -> None:
        """Answers the open calls, with a placeholder where no result came."""
        for _, sent in self._calls:
            out.append(results.get(sent) or Message("tool", _NO_RESULT, tool_call_id=sent))
        out += self._late
        self._calls, self._late = [], []

    def _result(self, path: str, block: Block, sent: str) -> Message:
        texts: list[str] = []
        media: list[Part] = []
        content = block.content
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            for index, inner in enumerate(content):
                for part in self._parts(f"{path}.content[{index}]", inner):
                    if part.type == "text":
                        texts.append(part.text or "")
                    else:
                        media.append(part)
        text = "\n".join(texts)
        return Message(
            "tool",
            [*([Part("text", text=text)] if text else []), *media] if media else text,
            tool_call_id=sent,
            is_error=block.is_error is True,
        )

    def _parts(self, path: str, block: Block) -> Iterator[Part]:
        """What a block of the user, or inside a result, says."""
        match block.type:
            case "text":
                if block.text:
                    yield Part("text", text=block.text)
            case "image":
                yield _image(path, block)
            case "document":
                if isinstance(block.citations, dict) and block.citations.get("enabled"):
                    self._drop("citations")
                yield from self._document(path, block)
            case "search_result":
                head = f"{block.title or ''} ({block.source})"
                yield Part("text", text="\n".join((head, *_texts(block.content))))
            case "tool_reference":
                if block.tool_name:
                    self.talk.found.add(block.tool_name)
                yield Part("text", text=f"Tool {block.tool_name} is now available.")
            case _:
                text = _text_of_server_block(block)
                if text:
                    yield Part("text", text=text)
                else:
                    self._drop(block.type)

    def _document(self, path: str, block: Block) -> Iterator[Part]:
        source = block.source if isinstance(block.source, schema.Source) else schema.Source()
        head = " - ".join(filter(None, (block.title, block.context)))
        match source.type:
            case "base64" | "url":
                yield Part("file", file=_file(block.title, source))
                if block.context:
                    yield Part("text", text=block.context)
            case "text":
                yield Part("text", text="\n".join(filter(None, (head, source.data))))
            case "content":
                if head:
                    yield Part("text", text=head)
                inner = source.content
                if isinstance(inner, str):
                    yield Part("text", text=inner)
                for index, each in enumerate(inner if isinstance(inner, list) else ()):
                    yield from self._parts(f"{path}.source.content[{index}]", each)
            case _:
                raise _no_files(f"{path}.source", source.type)

    # --- assistant ------------------------------------------------------------------------------

    def _assistant(self, run: list[Placed], out: list[Message]) -> None:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCallRequest] = []
        signature: str | None = None  # of the thought right before a call
        held: list[dict[str, Any]] = []  # OpenAI's thoughts, not yet given to a call
        first: list[dict[str, Any]] | None = None
        for path, block in run:
            match block.type:
                case "text":
                    texts.append(block.text or "")
                    first, held = [*(first or ()), *held], []
                case "thinking":
                    found = read_mark(block.signature or "")
                    if found is not None and found[0] == "g":
                        signature = found[1]
                    elif found is not None and found[0] == "o":
                        held.append({"type": "thinking", "signature": block.signature})
                    elif not block.signature or found is not None:
                        thoughts.append(block.thinking or "")
                case "redacted_thinking":
                    pass
                case "tool_use":
                    calls.append(self._call(path, block, signature))
                    signature = None
                    if first is None:
                        first = held
                    else:
                        calls[-1].thinking_blocks = held or None
                    held = []
                case _:
                    text = _text_of_server_block(block)
                    if text:
                        before = "\n" if texts and not texts[-1].endswith("\n") else ""
                        texts.append(f"{before}{text}\n")
                    else:
                        self._drop(block.type)
        text = "".join(texts)
        if text or calls:
            thought = "".join(thoughts) if self._is_current else ""
            out.append(
                Message(
                    "assistant",
                    text or None,
                    tool_calls=calls or None,
                    reasoning_content=thought or None,
                    thinking_blocks=first or None,
                )
            )

    def _call(self, path: str, block: Block, signature: str | None) -> ToolCallRequest:
        if not block.name:
            raise bad_request(f"{path}.name: a tool_use needs the tool's name.", f"{path}.name")
        arguments = bytes(block.input).strip() or b"{}"
        try:
            compact = msgspec.json.format(arguments, indent=-1).decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            compact = ""
        if compact[:1] != "{":
            raise bad_request(f"{path}.input: Input should be an object.", f"{path}.input")
        sent = _sent_id(block.id or "", path, {sent for _, sent in self._calls})
        self._calls.append((block.id or "", sent))
        extra = {"google": {"thought_signature": signature}} if signature else None
        return ToolCallRequest(
            sent, function=FunctionCall(block.name, compact), extra_content=extra
        )


def _runs(messages: Iterable[schema.Message]) -> Iterator[tuple[str, list[Placed]]]:
    """Neighbours of one role as one turn; each system message stays for itself."""
    role, run = "", list[Placed]()
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if message.role not in ("user", "assistant", "system"):
            raise bad_request(f"{path}.role: must be user, assistant or system.", f"{path}.role")
        content = message.content
        if isinstance(content, str):
            placed = [(f"{path}.content", Block("text", text=content))]
        else:
            placed = [(f"{path}.content[{at}]", block) for at, block in enumerate(content or ())]
        if message.role != role or role == "system":
            if run:
                yield role, run
            role, run = message.role, []
        run += placed
    if run:
        yield role, run


def _has_result(run: list[Placed]) -> bool:
    return any(block.type == "tool_result" for _, block in run)


def _sent_id(given: str, path: str, taken: set[str]) -> str:
    """An id that every upstream takes: its own, where it can be.

    Histories that began elsewhere bring ids of any length, or none.
    """
    sent = original(given)
    if not sent or len(sent) > _LONGEST_ID or sent in taken:
        sent = "toolu_" + sha256(f"{path} {given}".encode()).hexdigest()[:24]
    return sent


def _image(path: str, block: Block) -> Part:
    source = block.source if isinstance(block.source, schema.Source) else schema.Source()
    match source.type:
        case "base64":
            url = f"data:{source.media_type or ''};base64,{source.data or ''}"
        case "url":
            url = source.url or ""
        case _:
            raise _no_files(f"{path}.source", source.type)
    return Part("image_url", image_url=ImageUrl(url))


def _no_files(path: str, kind: str) -> Exception:
    return bad_request(
        f"{path}: a source of type {kind[:32]!r} works with Claude's own API only; send the "
        "content as base64.",
        path,
    )


def _file(title: str | None, source: schema.Source) -> File:
    name = title or "document.pdf"
    if source.type == "url":
        return File(filename=name, url=source.url or "")
    kind = source.media_type or "application/pdf"
    return File(file_data=f"data:{kind};base64,{source.data or ''}", filename=name)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    blocks = content if isinstance(content, list) else []
    return [block.text for block in blocks if block.text]


def _text_of_server_block(block: Block) -> str:
    """What a tool that ran at Anthropic, or its compaction, has said in words; "" for nothing."""
    content = block.content
    if block.type not in ("compaction", "mcp_tool_result") and not block.type.endswith(
        "_tool_result"
    ):
        return ""
    if isinstance(content, list):
        found = [f"{each.title or ''} - {each.url}" if each.url else each.text for each in content]
        return "\n".join(filter(None, found))
    if isinstance(content, str):
        return content
    said = [(content or {}).get(name) for name in ("url", "stdout", "stderr", "text")]
    return "\n".join(text for text in said if isinstance(text, str) and text)
