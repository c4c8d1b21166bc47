"""Events as `chat.completion.chunk` events of a stream."""

from collections.abc import Iterable
from typing import Any

import msgspec

from app.fronts.openai_chat.base import ChatRenderer, extra_content, logprobs_object, thought_fields
from app.wire.errors import GatewayError, upstream_cut
from app.wire.events import (
    End,
    Event,
    Extension,
    Finish,
    Follow,
    Reasoning,
    Refusal,
    Reply,
    Session,
    Started,
    Text,
    Thought,
    TokenLogprob,
    ToolArguments,
    ToolCall,
    Unknown,
    Usage,
)
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import SSE

DONE = b"data: [DONE]\n\n"
encode = msgspec.json.encode


class ChatStream(ChatRenderer):
    """chat.completion.chunk events. The parts that never change are encoded once per stream."""

    content_type = SSE

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._include_usage = answering.asked.options.include_usage
        self._told: set[int] = set()  # choices that have had their role chunk
        self._ended: set[int] = set()
        self._listed: dict[tuple[int, str], int] = {}  # entries told of a choice's extension lists
        self._templates()

    def _templates(self) -> None:
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (encode(self.id), self.created, encode(self.model))
        )
        # `{"claude": {...}}` without its braces, as further members of the chunk.
        session = b"," + encode(self.session)[1:-1] if self.session else b""
        self._end = (b',"usage":null' if self._include_usage else b"") + session + b"}\n\n"
        self._session = session
        self._delta_end = b',"logprobs":null,"finish_reason":null}]' + self._end
        self._text_head = self._head + b'{"index":0,"delta":{"content":'
        self._text_end = b"}" + self._delta_end
        self._reasoning_head = self._head + b'{"index":0,"delta":{"reasoning_content":'

    def feed(self, data: bytes) -> bytes:
        """Renders a piece of the upstream's answer."""
        return self._render(self.decoder.feed(data))

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Renders the end. Raises GatewayError 502 for an answer without an ending."""
        out = self._render(self.decoder.finish())
        if not self._ended:
            raise upstream_cut("The upstream's answer has no ending")
        if self._include_usage:
            out += self._head + b'],"usage":' + encode(self.usage_object()) + self._session
            out += b"}\n\n"
        return out + DONE

    def _render(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        try:
            self._say_all(events, out)
        except GatewayError as error:
            # What was said in the same read stands before the error, unless nothing was sent yet:
            # then the caller gets a true status, or another key's answer.
            error.said = b"".join(out)
            raise
        return b"".join(out)

    def _say_all(self, events: Iterable[Event], out: list[bytes]) -> None:
        for event in events:
            # The hot line first: nine of ten events are plain text of the first choice.
            if type(event) is Text and not event.index and event.logprobs is None and self.said:
                if event.text:
                    out += (self._text_head, encode(event.text), self._text_end)
            else:
                self._say(event, out)

    def _say(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Started():
                self.begin(event)
                self._templates()
                self._role(0, out)
            case Session():
                self.continues(event.fields)
                self._templates()
            case Usage() | Follow() | Reply() | End() | Unknown():
                self.aside(event)
            case Text():
                self._role(event.index, out)
                if event.text or event.logprobs is not None:
                    self._delta(event.index, {"content": event.text}, out, event.logprobs)
            case Reasoning():
                self._role(event.index, out)
                if event.text and not event.index:
                    self.said = True
                    out += (self._reasoning_head, encode(event.text), self._text_end)
                elif event.text:
                    self._delta(event.index, {"reasoning_content": event.text}, out)
            case Refusal():
                self._role(event.index, out)
                self._delta(event.index, {"refusal": event.text}, out)
            case ToolCall() | ToolArguments() if self.legacy:
                self._function_call(event, out)
            case ToolCall():
                self._role(event.index, out)
                call: dict[str, Any] = {
                    "index": event.tool,
                    "id": event.id,
                    "type": "function",
                    "function": {"name": event.name, "arguments": event.arguments},
                    **extra_content(event),
                }
                self._delta(event.index, {"tool_calls": [call]}, out)
            case ToolArguments():
                piece = {"index": event.tool, "function": {"arguments": event.arguments}}
                self._delta(event.index, {"tool_calls": [piece]}, out)
            case Thought():
                self._role(event.index, out)
                self._delta(event.index, self._numbered(event.index, thought_fields(event)), out)
            case Extension():
                self._role(event.index, out)
                self._delta(event.index, self._numbered(event.index, event.fields), out)
            case Finish():
                self._finish(event, out)

    def _function_call(self, event: ToolCall | ToolArguments, out: list[bytes]) -> None:
        """The older `function_call`, which has place for one call."""
        self._role(event.index, out)
        if event.tool:
            return
        function = {"arguments": event.arguments}
        if isinstance(event, ToolCall):
            function = {"name": event.name, **function}
        self._delta(event.index, {"function_call": function}, out)

    def _finish(self, event: Finish, out: list[bytes]) -> None:
        self._role(event.index, out)
        if event.index in self._ended:
            return
        self.said = True
        self._ended.add(event.index)
        reason = encode(self.finish_reason(event))
        out += (
            self._head,
            b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}]' % (event.index, reason),
            self._end,
        )

    def _numbered(self, index: int, told: dict[str, Any]) -> dict[str, Any]:
        """Entries of lists with their `index`: OpenAI's client cannot join deltas without it."""
        fields = dict(told)
        for name, value in fields.items():
            if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
                first = self._listed.get((index, name), 0)
                self._listed[index, name] = first + len(value)
                fields[name] = [{"index": at, **entry} for at, entry in enumerate(value, first)]
        return fields

    def _role(self, index: int, out: list[bytes]) -> None:
        if index not in self._told:
            self._told.add(index)
            role = b'{"index":%d,"delta":{"role":"assistant","content":""}' % index
            out += (self._head, role, self._delta_end)

    def _delta(
        self,
        index: int,
        delta: dict[str, Any],
        out: list[bytes],
        logprobs: list[TokenLogprob] | None = None,
    ) -> None:
        self.said = True
        out.append(self._head + b'{"index":%d,"delta":%b' % (index, encode(delta)))
        if logprobs is None:
            out.append(self._delta_end)
        else:
            out += (
                b',"logprobs":',
                encode(logprobs_object(logprobs)),
                b',"finish_reason":null}]',
                self._end,
            )
