"""Decodes Anthropic's answers, streamed or as one JSON object, to the same events.

    message_start                      Started
    content_block_start  tool_use      ToolCall        (renumbered: Claude counts every block)
    content_block_delta  text          Text            (the hot path)
                         thinking      Reasoning
                         input_json    ToolArguments
    content_block_stop   thinking      Thought         (with the signature)
                         tool_use      ToolArguments   ("{}" when no argument text came)
    message_delta                      Refusal, Finish, Usage
    message_stop                       the answer is whole

A thought that is sent back unchanged in the assistant message it came with lets Claude think on
through a round of tool calls.
"""

from collections.abc import Iterable
from contextlib import suppress

import msgspec

from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    Thought,
    ToolArguments,
    ToolCall,
    Unknown,
    Usage,
)
from app.wire.framing import SSEParser
from app.wire.provider import Call
from app.wire.surrogates import mend
from providers.claude.errors import refusal_in_body
from providers.claude.schema import (
    ArgumentsDelta,
    CommonDelta,
    ContentBlock,
    Delta,
    EventKind,
    Kind,
    MessageAnswer,
    StopDetails,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    UsageCounts,
)
from providers.claude.tools import json_tool, tool_names

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_KNOWN_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    }
)

# The blocks and deltas that are read here. Others are skipped, whatever their members: citations,
# server tools and their results, and future ones.
_KNOWN_PARTS = frozenset(
    {
        "text",
        "tool_use",
        "thinking",
        "redacted_thinking",
        "text_delta",
        "input_json_delta",
        "thinking_delta",
        "signature_delta",
    }
)

_decode_common = msgspec.json.Decoder(CommonDelta).decode
_decode_event = msgspec.json.Decoder(StreamEvent).decode
_decode_event_kind = msgspec.json.Decoder(EventKind).decode
_decode_block = msgspec.json.Decoder(ContentBlock).decode
_decode_kind = msgspec.json.Decoder(Kind).decode
_decode_answer = msgspec.json.Decoder(MessageAnswer).decode

# What msgspec raises for bytes that are not JSON, for broken UTF-8 and for very deep nesting.
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decoder(call: Call) -> "MessagesDecoder | AnswerDecoder":
    """The decoder for the answer to this call."""
    teller = _Teller(call)
    if call.stream:
        return MessagesDecoder(teller, call.config.limits.response_bytes)
    return AnswerDecoder(teller, call.config.limits.response_bytes)


class _Teller:
    """Makes the events of the parts of an answer; both decoders share it."""

    def __init__(self, call: Call) -> None:
        chat = call.chat if isinstance(call.chat, ChatRequest) else None
        self.json_tool = json_tool(chat, call.model) if chat is not None else None
        self._renamed = tool_names(chat).renamed if chat is not None else {}
        self.tools = 0
        self._call = call
        self._counts = UsageCounts()

    def started(self, answer: MessageAnswer | None) -> Started:
        answer = answer or MessageAnswer()
        self.count(answer.usage)
        return Started(
            answer.id or f"msg_{self._call.new_id()}",
            answer.model or self._call.model,
        )

    def tool_call(self, block: ContentBlock, arguments: str = "") -> ToolCall:
        tool = self.tools
        self.tools += 1
        call_id = block.id or f"toolu_{self._call.new_id()[8:]}"
        name = block.name or ""
        return ToolCall(call_id, self._renamed.get(name, name), arguments, tool)

    def count(self, counts: UsageCounts | None) -> None:
        """Overwrites, never adds: every figure on the wire is cumulative."""
        if counts is None:
            return
        held = self._counts
        for name in UsageCounts.__struct_fields__:
            value = getattr(counts, name)
            if value is not None:
                setattr(held, name, value)

    def usage(self) -> Usage:
        held = self._counts
        cached = held.cache_read_input_tokens or 0
        written = held.cache_creation_input_tokens
        details, hour = held.output_tokens_details, held.cache_creation
        return Usage(
            # Claude's input_tokens leaves out what came from or went into the cache.
            prompt_tokens=(held.input_tokens or 0) + cached + (written or 0),
            completion_tokens=held.output_tokens or 0,
            cached_tokens=cached,
            cache_write_tokens=written,
            reasoning_tokens=(details.thinking_tokens or 0) if details else 0,
            cache_write_1h_tokens=(hour.ephemeral_1h_input_tokens or 0) if hour else 0,
        )

    def ending(
        self,
        stop_reason: str,
        details: StopDetails | None = None,
        stop_sequence: str | None = None,
    ) -> list[Event]:
        reason = FINISH_REASONS.get(stop_reason, "stop")
        if reason in ("tool_calls", "stop"):
            # A call in the answer decides, for some servers end its turn with end_turn; without
            # one the only call was the stand-in for json_schema.
            reason = "tool_calls" if self.tools else "stop"
        finish = Finish(reason, native=stop_reason, stop_sequence=stop_sequence)
        if stop_reason == "refusal" and details is not None and details.explanation:
            return [Refusal(details.explanation), finish]
        return [finish]


def _thinking_block(block: ContentBlock) -> Event | None:
    """The block as it must come back, None without the signature that makes it worth sending."""
    if block.type == "redacted_thinking" and block.data:
        return Thought(redacted=block.data)
    if block.type == "thinking" and block.signature:
        return Thought(block.thinking or "", block.signature)
    return None


def _input_text(block: ContentBlock) -> str:
    """A tool's input as compact JSON text, its numbers and escapes as they came."""
    raw = bytes(block.input)
    if raw in (b"", b"null"):
        return "{}"
    try:
        return msgspec.json.format(raw, indent=-1).decode()
    except _NOT_JSON:  # Raw is only checked to be balanced JSON, not to be UTF-8
        raise bad_response("The upstream's tool call holds broken text.") from None


class _Open:
    """A tool or thinking block that has begun; its end is an event too."""

    def __init__(self, block: ContentBlock, tool: int | None, told: bool) -> None:
        self.block = block
        self.tool = tool  # None: thinking, or the stand-in for json_schema
        self.told = told  # argument text has been told
        self.whole = told  # with the start of the block: some servers say it again in pieces
        self.pieces: list[str] = []  # of the thinking


class MessagesDecoder:
    """Decodes the event stream of POST /v1/messages.

    Events that came before an error in the same read are told first: the error is raised at the
    next call, so that an answer does not depend on how the network cut it.
    """

    def __init__(self, teller: _Teller, max_bytes: int) -> None:
        self._parser = SSEParser(max_bytes)
        self._teller = teller
        self._started = False
        self._finished = False
        self._stopped = False
        self._open: dict[int, _Open] = {}
        self._error: GatewayError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Decodes the next bytes of the body; any split gives the same events."""
        if self._error is not None:
            raise self._error
        out: list[Event] = []
        try:
            self._take(self._parser.feed(data), out)
        except GatewayError as error:
            if not out:
                raise
            self._error = error
        return out

    def counted(self) -> Usage:
        """The prompt's tokens are told with the start, the answer's with its end."""
        return self._teller.usage()

    def finish(self) -> list[Event]:
        """Tells how the answer ended. Raises GatewayError 502 when it was not whole."""
        if self._error is not None:
            raise self._error
        out: list[Event] = []
        # A last event without its blank line is still an event, unless it was cut in the middle.
        records = self._parser.finish()
        if not self._stopped:
            try:
                self._take(records, out)
            except GatewayError as error:
                if error.code == "upstream_bad_response":
                    raise upstream_cut() from None
                raise
        if not self._stopped:
            if not self._started:
                self._raise_bare_error()
            raise upstream_cut()
        return out

    def _take(self, records: list[tuple[bytes, bytes]], out: list[Event]) -> None:
        for name, data in records:
            if self._stopped:
                return
            if name == b"content_block_delta" and self._started:
                try:
                    common = _decode_common(data)
                except _NOT_JSON:
                    self._any_event(name, data, out)
                    continue
                delta = common.delta
                if type(delta) is TextDelta:
                    if delta.text:
                        out.append(Text(delta.text))
                elif type(delta) is ArgumentsDelta:
                    self._arguments(common.index, delta.partial_json, out)
                elif type(delta) is ThinkingDelta:
                    self._thinking(common.index, delta.thinking, out)
            else:
                self._any_event(name, data, out)

    def _any_event(self, name: bytes, data: bytes, out: list[Event]) -> None:
        try:
            event = _decode_event(data)
        except _NOT_JSON as error:
            kind, part = _kinds_in(data, name, error)
            if kind not in _KNOWN_EVENTS:
                out.append(Unknown(kind))
            elif part is None or part.type in _KNOWN_PARTS:
                raise bad_response(f"The upstream sent a malformed {kind} event.") from None
            return
        kind = event.type or name.decode("latin-1")
        match kind:
            case "ping":
                return
            case "error":
                raise refusal_in_body(event.error)
            case "message_start":
                if not self._started:
                    self._started = True
                    out.append(self._teller.started(event.message))
                return
        if kind not in _KNOWN_EVENTS:
            out.append(Unknown(kind))
            return
        if not self._started:
            raise bad_response("The upstream's stream does not begin with message_start.")
        match kind:
            case "content_block_start" if event.content_block is not None:
                self._block_start(event.index, event.content_block, out)
            case "content_block_delta" if event.delta is not None:
                self._delta(event.index, event.delta, out)
            case "content_block_stop":
                self._block_stop(event.index, out)
            case "message_delta":
                self._message_delta(event, out)
            case "message_stop":
                self._message_stop(out)

    def _block_start(self, index: int, block: ContentBlock, out: list[Event]) -> None:
        self._open.pop(index, None)
        match block.type:
            case "text":
                if block.text:
                    out.append(Text(block.text))
            case "tool_use":
                given = _input_text(block)
                arguments = "" if given == "{}" else given
                if block.name == self._teller.json_tool and block.name is not None:
                    self._open[index] = _Open(block, None, bool(arguments))
                    if arguments:
                        out.append(Text(arguments))
                else:
                    call = self._teller.tool_call(block, arguments)
                    self._open[index] = _Open(block, call.tool, bool(arguments))
                    out.append(call)
            case "thinking":
                self._open[index] = _Open(block, None, True)
                if block.thinking:
                    self._thinking(index, block.thinking, out)
            case "redacted_thinking":
                told = _thinking_block(block)
                if told is not None:
                    out.append(told)

    def _delta(self, index: int, delta: Delta, out: list[Event]) -> None:
        """The rare deltas, and the common ones from servers that name no `event:`."""
        match delta.type:
            case "text_delta" if delta.text:
                out.append(Text(delta.text))
            case "input_json_delta" if delta.partial_json:
                self._arguments(index, delta.partial_json, out)
            case "thinking_delta" if delta.thinking:
                self._thinking(index, delta.thinking, out)
            case "signature_delta":
                held = self._open.get(index)
                if held is not None and delta.signature:
                    held.block.signature = delta.signature

    def _arguments(self, index: int, piece: str, out: list[Event]) -> None:
        held = self._open.get(index)
        if not piece or held is None or held.whole or held.block.type != "tool_use":
            return  # the first piece is empty; server tools are not the caller's business
        held.told = True
        out.append(Text(piece) if held.tool is None else ToolArguments(piece, held.tool))

    def _thinking(self, index: int, piece: str, out: list[Event]) -> None:
        if not piece:
            return
        held = self._open.get(index)
        if held is not None:
            held.pieces.append(piece)
        out.append(Reasoning(piece))

    def _block_stop(self, index: int, out: list[Event]) -> None:
        held = self._open.pop(index, None)
        if held is None:
            return
        if held.block.type == "thinking":
            held.block.thinking = "".join(held.pieces)
            told = _thinking_block(held.block)
            if told is not None:
                out.append(told)
        elif not held.told:
            # A tool without parameters: only an empty piece came, but arguments must be JSON.
            out.append(Text("{}") if held.tool is None else ToolArguments("{}", held.tool))

    def _message_delta(self, event: StreamEvent, out: list[Event]) -> None:
        delta = event.delta
        if delta is not None and delta.stop_reason and not self._finished:
            self._close_blocks(out)
            self._finished = True
            out += self._teller.ending(delta.stop_reason, delta.stop_details, delta.stop_sequence)
        self._teller.count(event.usage)
        out.append(self._teller.usage())

    def _message_stop(self, out: list[Event]) -> None:
        self._stopped = True
        if not self._finished:
            self._close_blocks(out)
            out += self._teller.ending("end_turn")
            out.append(self._teller.usage())

    def _close_blocks(self, out: list[Event]) -> None:
        for index in list(self._open):
            self._block_stop(index, out)

    def _raise_bare_error(self) -> None:
        """Some proxies refuse with status 200 and a JSON error, or a page, instead of events."""
        stray = bytes(self._parser.stray)
        try:
            answer = _decode_answer(stray)
        except _NOT_JSON:
            if stray.lstrip().startswith(b"<"):
                raise bad_response(
                    "The upstream answered with a web page instead of a stream; "
                    "check claude.api_url in the config."
                ) from None
            return
        if answer.error is not None:
            raise refusal_in_body(answer.error)


def _kinds_in(data: bytes, name: bytes, error: Exception) -> tuple[str, Kind | None]:
    """The type of an event that does not fit its shape, and the part in it."""
    if not isinstance(error, msgspec.ValidationError):
        raise bad_response("The upstream sent an event that is not JSON.") from None
    try:
        kind = _decode_event_kind(data)
    except _NOT_JSON:  # the first complaint need not have been the only one
        raise bad_response("The upstream sent an event without a readable type.") from None
    return kind.type or name.decode("latin-1"), kind.delta or kind.content_block


class AnswerDecoder:
    """Decodes a whole JSON answer; its events come at the end."""

    def __init__(self, teller: _Teller, max_bytes: int) -> None:
        self._teller = teller
        self._pieces: list[bytes] = []
        self._left = max_bytes

    def feed(self, data: bytes) -> Iterable[Event]:
        """Collects the body. Raises GatewayError 502 above limits.response_bytes."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self._pieces.append(data)
        return ()

    def finish(self) -> list[Event]:
        """Decodes the whole body. Raises GatewayError 502 when it is not an answer."""
        body = mend(b"".join(self._pieces))
        if not body.strip():
            raise upstream_cut("The upstream's answer is empty")
        try:
            answer = _decode_answer(body)
        except _NOT_JSON as error:
            if "truncated" in str(error):
                raise upstream_cut() from None
            raise bad_response("The upstream's answer is not a Messages object.") from None
        if answer.error is not None or answer.type == "error":
            raise refusal_in_body(answer.error)
        if answer.type not in (None, "message") or answer.content is None:
            raise bad_response("The upstream's answer is not a Messages object.")
        out: list[Event] = [self._teller.started(answer)]
        for raw in answer.content:
            self._block(raw, out)
        reason = answer.stop_reason or "end_turn"
        out += self._teller.ending(reason, answer.stop_details, answer.stop_sequence)
        out.append(self._teller.usage())
        return out

    def _block(self, raw: msgspec.Raw, out: list[Event]) -> None:
        try:
            block = _decode_block(raw)
        except _NOT_JSON:
            with suppress(*_NOT_JSON):
                if _decode_kind(raw).type not in _KNOWN_PARTS:
                    return
            raise bad_response("The upstream's answer holds a malformed block.") from None
        match block.type:
            case "text":
                if block.text:
                    out.append(Text(block.text))
            case "tool_use":
                arguments = _input_text(block)
                if block.name == self._teller.json_tool and block.name is not None:
                    out.append(Text(arguments))
                else:
                    out.append(self._teller.tool_call(block, arguments))
            case "thinking" | "redacted_thinking":
                if block.thinking:
                    out.append(Reasoning(block.thinking))
                told = _thinking_block(block)
                if told is not None:
                    out.append(told)
