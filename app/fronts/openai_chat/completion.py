"""Events folded into one chat.completion object."""

from typing import Any

from app.fronts.openai_chat.base import (
    ChatRenderer,
    extra_content,
    logprobs_object,
    thought_fields,
)
from app.fronts.openai_chat.stream import encode
from app.wire.errors import bad_response, upstream_cut
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
from app.wire.renderer import JSON


class _Choice:
    """One choice being put together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools: dict[int, ToolCall] = {}
        self.arguments: dict[int, list[str]] = {}
        self.extension: dict[str, Any] = {}
        self.logprobs: list[TokenLogprob] = []
        self.reason: str | None = None

    def message(self, legacy: bool) -> dict[str, Any]:
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(self.arguments[tool])},
                **extra_content(call),
            }
            for tool, call in sorted(self.tools.items())
        ]
        text = "".join(self.text)
        refusal = "".join(self.refusal) or None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not (calls or refusal) else None,
            "refusal": refusal,
        }
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if calls and legacy:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        message.update(self.extension)
        return message


class Completion(ChatRenderer):
    """One chat.completion object, sent when the answer is whole."""

    content_type = JSON

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._choices: dict[int, _Choice] = {}
        self._left = answering.max_bytes

    def feed(self, data: bytes) -> bytes:
        """Reads a piece of the upstream's answer; nothing is sent before the end."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        for event in self.decoder.feed(data):
            self._take(event)
        return b""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """The whole body. Raises GatewayError 502 for an answer without an ending."""
        for event in self.decoder.finish():
            self._take(event)
        choices = sorted(self._choices.items())
        if not any(choice.reason for _, choice in choices):
            raise upstream_cut("The upstream's answer has no ending")
        return encode(
            {
                "id": self.id,
                "object": "chat.completion",
                "created": self.created,
                "model": self.model,
                "choices": [
                    {
                        "index": index,
                        "message": choice.message(self.legacy),
                        "logprobs": logprobs_object(choice.logprobs) if choice.logprobs else None,
                        "finish_reason": choice.reason or "stop",
                    }
                    for index, choice in choices
                ],
                "usage": self.usage_object(),
                **self.session,
            }
        )

    def _take(self, event: Event) -> None:
        match event:
            case Started():
                self.begin(event)
                self._choice(0)
            case Session():
                self.continues(event.fields)
            case Usage() | Follow() | Reply() | End() | Unknown():
                self.aside(event)
            case Text():
                choice = self._choice(event.index)
                choice.text.append(event.text)
                if event.logprobs is not None:
                    choice.logprobs += event.logprobs
            case Reasoning():
                self._choice(event.index).reasoning.append(event.text)
            case Refusal():
                self._choice(event.index).refusal.append(event.text)
            case ToolCall():
                choice = self._choice(event.index)
                choice.tools[event.tool] = event
                choice.arguments[event.tool] = [event.arguments]
            case ToolArguments():
                self._choice(event.index).arguments.setdefault(event.tool, []).append(
                    event.arguments
                )
            case Thought():
                self._extend(event.index, thought_fields(event))
            case Extension():
                self._extend(event.index, event.fields)
            case Finish():
                choice = self._choice(event.index)
                choice.reason = choice.reason or self.finish_reason(event)

    def _extend(self, index: int, fields: dict[str, Any]) -> None:
        held = self._choice(index).extension
        for name, value in fields.items():
            if isinstance(value, list) and isinstance(held.get(name), list):
                held[name] = held[name] + value
            else:
                held[name] = value

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        return choice
