"""OpenAI's chat completions as the simulated model gives them: the request in, bytes out, no I/O.

The text answers "You said: <the last user message>", so that a test can tell whose answer it is.
A tool is called where the request forces it or the prompt names it (tool_choice.py).
Shapes and order of members follow OpenAI's published API and recorded answers of 2026.
"""

import re
import secrets
import time
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import msgspec
from msgspec import Struct

from app.simulator.agent_turn import act, turn_of
from app.simulator.examples import example
from app.simulator.faults import Fault
from app.simulator.tool_choice import Call, choose

JSON = dict[str, Any]
encode = msgspec.json.encode

# The top-level members of OpenAI's CreateChatCompletionRequest; any other is refused, as there.
KNOWN = frozenset(
    re.findall(
        r"\w+",
        """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
        max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction
        presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention
        reasoning_effort response_format safety_identifier seed service_tier stop store stream
        stream_options temperature tool_choice tools top_logprobs top_p user verbosity
        web_search_options""",
    )
)
ROLES = ("system", "assistant", "user", "function", "tool", "developer")
RANGES = (
    ("temperature", 0, 2),
    ("top_p", 0, 1),
    ("presence_penalty", -2, 2),
    ("frequency_penalty", -2, 2),
    ("n", 1, 128),
    ("top_logprobs", 0, 20),
    ("max_tokens", 1, 1_000_000),
    ("max_completion_tokens", 1, 1_000_000),
)
# An answer names the dated snapshot, not the alias that was asked for.
SNAPSHOTS = {
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
DONE = b"data: [DONE]\n\n"
CUSTOM_INPUT = "example"  # what a tool without a schema is given
REFUSAL = "I'm sorry, I can't assist with that request."


class Problem(Struct, frozen=True):
    """A 400: what OpenAI says when a member is wrong."""

    message: str
    param: str | None
    code: str | None


class ToolAnswer(Struct, frozen=True):
    """One tool call of an answer; `arguments` is a custom tool's input too."""

    id: str
    type: str  # function or custom
    name: str
    arguments: str

    def view(self) -> JSON:
        """The call as a member of `tool_calls`."""
        if self.type == "custom":
            return {
                "id": self.id,
                "type": "custom",
                "custom": {"name": self.name, "input": self.arguments},
            }
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


def token(length: int = 24) -> str:
    """Random letters and digits, for ids."""
    return "".join(secrets.choice(LETTERS) for _ in range(length))


def find_problem(body: Any) -> Problem | None:
    """The first thing OpenAI would refuse in this request, None when it would answer."""
    if not isinstance(body, dict):
        return Problem("Invalid body: expected a JSON object.", None, None)
    for name in body:
        if name not in KNOWN:
            return Problem(f"Unrecognized request argument supplied: {name}", None, None)
    if not isinstance(body.get("model"), str):
        return Problem("you must provide a model parameter", None, None)
    messages = body.get("messages")
    if messages is None:
        return Problem(
            "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
        )
    if not isinstance(messages, list):
        return _wrong_type("messages", "an array of objects", messages)
    if not messages:
        said = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        return Problem(said, "messages", "empty_array")
    for at, message in enumerate(messages):
        if wrong := _message_problem(message, f"messages[{at}]", messages[:at]):
            return wrong
    for name, least, most in RANGES:
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return _wrong_type(name, "a number", value)
        if value < least or value > most:
            what, code = ("below minimum", "integer_below_min_value")
            if value > most:
                what, code = ("above maximum", "integer_above_max_value")
            bound = least if value < least else most
            said = f"Invalid '{name}': {what} value. Expected a value of {bound}, got {value}."
            return Problem(said, name, code)
    if body.get("stream_options") is not None and not body.get("stream"):
        said = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return Problem(said, "stream_options", None)
    if body.get("tools") is not None and not isinstance(body["tools"], list):
        return _wrong_type("tools", "an array of objects", body["tools"])
    return None


def _message_problem(message: Any, at: str, before: list[Any]) -> Problem | None:
    if not isinstance(message, dict):
        return _wrong_type(at, "an object", message)
    if message.get("role") not in ROLES:
        names = ", ".join(f"'{role}'" for role in ROLES[:-1]) + f", and '{ROLES[-1]}'"
        said = f"Invalid value: '{message.get('role')}'. Supported values are: {names}."
        return Problem(said, f"{at}.role", "invalid_value")
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        return _wrong_type(f"{at}.content", "one of a string or array of objects", content)
    if content is None and message["role"] in ("user", "system", "developer"):
        said = f"Invalid value for 'content': expected a string, got null in {at}."
        return Problem(said, f"{at}.content", None)
    if message["role"] == "tool":
        calls = [
            call.get("id")
            for each in before
            if isinstance(each, dict)
            for call in each.get("tool_calls") or []
        ]
        if message.get("tool_call_id") not in calls:
            said = (
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding"
                " message with 'tool_calls'."
            )
            return Problem(said, f"{at}.role", None)
    return None


def _wrong_type(param: str, expected: str, value: Any) -> Problem:
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
    }
    got = names.get(type(value), "an object")
    said = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
    return Problem(said, param, "invalid_type")


def text_of(content: Any) -> str:
    """The text of a content: a string, or its text parts joined."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _said(messages: list[JSON]) -> Iterator[tuple[str, str]]:
    """The conversation for `turn_of`."""
    for message in messages:
        role, text = message["role"], text_of(message.get("content"))
        if role in ("tool", "function"):
            # The wire has no word for a failure; agents write it.
            role = "failure" if text.startswith("Error") else "result"
        yield role, text


class Answer:
    """One answer to one request, as a stream or as one object."""

    def __init__(self, body: JSON, fault: Fault) -> None:
        self.body = body
        self.fault = fault
        self.id = "chatcmpl-" + token(29)
        self.created = int(time.time())
        self.model = SNAPSHOTS.get(body["model"], body["model"])
        self.count = body.get("n") or 1
        self.prompt_tokens = sum(
            len(text_of(message.get("content")).split()) + 4 for message in body["messages"]
        )
        self.completion_tokens = 0
        self.turn = turn_of(_said(body["messages"]))
        self.question = self.turn.prompt
        self.act: Call | str | None = None
        self.tools = self._tool_calls()
        self.old_style = bool(body.get("functions")) and not body.get("tools")
        options = body.get("stream_options") or {}
        self.include_usage = options.get("include_usage") is True
        self.obfuscates = options.get("include_obfuscation") is not False

    # content ------------------------------------------------------------------------------------

    def _tool_calls(self) -> list[ToolAnswer]:
        body = self.body
        tools = body.get("tools") or [
            {"type": "function", "function": each} for each in body.get("functions") or []
        ]
        choice = body.get("tool_choice", body.get("function_call"))
        if choice in (None, "auto"):
            schemas = {_tool_name(tool): parameters_of(tool) for tool in tools}
            self.act = act(schemas, self.turn)
        if isinstance(self.act, Call):
            [tool] = [tool for tool in tools if _tool_name(tool) == self.act.name]
            return [self._tool_call(tool, self.act)]
        if not tools or choice == "none" or self.turn.latest:
            return []
        calls = chosen(
            tools,
            choice,
            self.question,
            several=body.get("parallel_tool_calls") is not False and not body.get("functions"),
        )
        return [self._tool_call(tool, call) for tool, call in calls]

    def _tool_call(self, tool: JSON, call: Call) -> ToolAnswer:
        identity = "call_" + token()
        if tool.get("type") == "custom":
            return ToolAnswer(identity, "custom", call.name, CUSTOM_INPUT)
        arguments = encode(call.arguments(parameters_of(tool))).decode()
        return ToolAnswer(identity, "function", call.name, arguments)

    def _text(self, index: int) -> str:
        shape = self.body.get("response_format") or {}
        said = f"You said: {self.question}"
        if shape.get("type") == "json_schema":
            schema = (shape.get("json_schema") or {}).get("schema") or {"type": "object"}
            return encode(example(schema, self.question)).decode()
        if shape.get("type") == "json_object":
            return encode({"answer": said}).decode()
        if isinstance(self.act, str):
            return self.act
        if self.turn.latest:
            said = f"The tool said: {self.turn.latest[-1]}"
        return said if index == 0 else f"{said} (choice {index})"

    def _pieces(self, index: int) -> Iterator[tuple[str, str]]:
        """Pieces of choice `index` with "" and, as the very last, "" with the finish reason."""
        stops = self.body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        text = self._text(index)
        for stop in stops:
            text = text.split(stop, 1)[0] if stop else text
        most = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        is_json = (self.body.get("response_format") or {}).get("type", "text") != "text"
        pieces = re.findall(r"(?s).{1,8}", text) if is_json else self.fault.pieces(text)
        for said, piece in enumerate(pieces):
            if most is not None and said == most:
                yield "", "length"
                return
            self.completion_tokens += 1
            yield piece, ""
        yield "", "stop"

    @property
    def usage(self) -> JSON:
        """OpenAI's usage object, with the tokens counted so far."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _logprobs(self, piece: str) -> JSON | None:
        if not self.body.get("logprobs"):
            return None
        entry = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
        others = range(self.body.get("top_logprobs") or 0)
        top = [{**entry, "logprob": -0.25 - other} for other in others]
        return {"content": [{**entry, "top_logprobs": top}] if piece else [], "refusal": None}

    # as one object -----------------------------------------------------------------------------

    def whole(self) -> bytes:
        """The answer as one chat completion."""
        choices = [self._choice(index) for index in range(self.count)]
        completion = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": self.usage,
            "service_tier": "default",
            "system_fingerprint": None,
        }
        return msgspec.json.format(encode(completion), indent=2)

    def _choice(self, index: int) -> JSON:
        message: JSON = {"role": "assistant", "content": None, "refusal": None}
        logprobs, reason = None, "stop"
        if self.fault.refusal:
            message["refusal"] = REFUSAL
        elif self.tools and self.old_style:
            call = self.tools[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
            reason = "function_call"
        elif self.tools:
            message["tool_calls"] = [call.view() for call in self.tools]
            reason = "tool_calls"
        else:
            pieces = list(self._pieces(index))
            reason = pieces[-1][1]
            message["content"] = "".join(piece for piece, _ in pieces)
            if self.body.get("logprobs"):
                said = [self._logprobs(piece) or {} for piece, _ in pieces[:-1]]
                logprobs = {"content": [each["content"][0] for each in said], "refusal": None}
        message["annotations"] = []
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    # as a stream -------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """The answer as SSE events, [DONE] last."""
        self._head = encode(
            {
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "service_tier": "default",
                "system_fingerprint": None,
            }
        )[:-1]
        choices = [self._choice_chunks(index) for index in range(self.count)]
        for row in zip_longest(*choices):  # one choice per chunk, the choices taking turns
            yield from filter(None, row)
        if self.include_usage:
            yield b'data: %b,"choices":[],"usage":%b%b}\n\n' % (
                self._head,
                encode(self.usage),
                self._obfuscation(),
            )
        yield DONE

    def _choice_chunks(self, index: int) -> Iterator[bytes]:
        """All chunks of one choice."""
        if self.fault.refusal:
            yield self._chunk(index, {"role": "assistant", "content": None, "refusal": ""})
            for piece in re.findall(r"\s*\S+", REFUSAL):
                yield self._chunk(index, {"refusal": piece})
            yield self._chunk(index, {}, reason="stop")
        elif self.tools:
            yield self._chunk(index, {"role": "assistant", "content": None})
            yield from self._tool_chunks(index)
        else:
            first = {"role": "assistant", "content": "", "refusal": None}
            yield self._chunk(index, first, self._logprobs(""))
            for piece, reason in self._pieces(index):
                if reason:
                    yield self._chunk(index, {}, reason=reason)
                else:
                    yield self._chunk(index, {"content": piece}, self._logprobs(piece))

    def _tool_chunks(self, index: int) -> Iterator[bytes]:
        for at, call in enumerate(self.tools):
            pieces = re.findall(r"(?s).{1,6}", call.arguments)
            self.completion_tokens += len(pieces)
            if self.old_style:
                yield self._chunk(index, {"function_call": {"name": call.name, "arguments": ""}})
                for piece in pieces:
                    yield self._chunk(index, {"function_call": {"arguments": piece}})
                continue
            begun = ToolAnswer(call.id, call.type, call.name, "").view()
            yield self._chunk(index, {"tool_calls": [{"index": at, **begun}]})
            word = "input" if call.type == "custom" else "arguments"
            for piece in pieces:
                part = {"index": at, call.type: {word: piece}}
                yield self._chunk(index, {"tool_calls": [part]})
        reason = "function_call" if self.old_style else "tool_calls"
        yield self._chunk(index, {}, reason=reason)

    def _chunk(
        self, index: int, delta: JSON, logprobs: JSON | None = None, reason: str | None = None
    ) -> bytes:
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (
            index,
            encode(delta),
            encode(logprobs),
            encode(reason),
        )
        usage = b',"usage":null' if self.include_usage else b""
        return b'data: %b,"choices":[%b]%b%b}\n\n' % (
            self._head,
            choice,
            usage,
            self._obfuscation(),
        )

    def _obfuscation(self) -> bytes:
        """Random letters of random length, which hide how long each piece of text is."""
        if not self.obfuscates:
            return b""
        start = secrets.randbelow(40)
        return b',"obfuscation":"%b"' % LETTERS[start : start + 2 + start % 14].encode()


def chosen(
    tools: list[JSON], choice: Any, prompt: str, *, several: bool
) -> list[tuple[JSON, Call]]:
    """The tools that are called, each with its call; `choice` as in chat or as in Responses."""
    is_forced = choice == "required"
    if isinstance(choice, dict):
        is_forced = True
        wanted = {_tool_name(choice)}
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools") or choice
            is_forced = allowed.get("mode") == "required"
            wanted = {_tool_name(tool) for tool in allowed.get("tools") or []}
        tools = [tool for tool in tools if _tool_name(tool) in wanted]
    by_name = {_tool_name(tool): tool for tool in tools}
    calls = choose(list(by_name), prompt, is_forced=is_forced, several=several)
    return [(by_name[call.name], call) for call in calls]


def parameters_of(tool: JSON) -> Any:
    """The JSON schema of a tool's input, of chat or of Responses; None for a custom tool."""
    return (tool.get("function") or tool).get("parameters")


def _tool_name(tool: JSON) -> str:
    inner = tool.get("function") or tool.get("custom") or tool
    return str(inner.get("name", ""))
