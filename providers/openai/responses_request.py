"""The neutral chat request as a body of OpenAI's Responses, for models that speak nothing else.

Nothing is kept upstream: every request holds the whole conversation, and thoughts go there and back
encrypted, in the gateway's mark (app/wire/signature_mark.py). What Responses has no word for is
left out and named. Protocol sheet: front-responses, 9.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw, Struct

from app.wire.asked import UNREADABLE, Asked, as_bad_request
from app.wire.chat import ChatRequest, File, Function, Message, Part, ToolCallRequest, plain
from app.wire.dropped import dropped_in_messages, dropped_parameters
from app.wire.errors import bad_request
from app.wire.media_types import first_bytes, media_type
from app.wire.provider import Call
from app.wire.signature_mark import read_mark
from app.wire.strict_schema import is_strict
from app.wire.tool_names import ToolNames
from providers.openai.learned import Learned
from providers.openai.request import (
    JSON_ALONE,
    drop,
    effort_of,
    extra_names,
    must_name_json,
    room_to_think,
    tool_names,
)
from providers.openai.request import WIRE as CHAT

_LEAST_TOKENS = 16
_LONGEST_ID = 64
# Members of the neutral request that have no word there.
_UNSAYABLE = (
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "stop",
)
_SAME = ("temperature", "top_p", "parallel_tool_calls", "top_logprobs", "user", "safety_identifier")
# Of the chat wire's further members those that Responses knows by the same name.
_SAME_EXTRAS = ("metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention")


class Encrypted(Struct):
    """A reasoning item of OpenAI's, as the mark of kind `o` carries it."""

    id: str
    encrypted_content: str


def read(chat: ChatRequest, asked: Asked) -> ChatRequest:
    """The request. Raises GatewayError 400 for what would be another answer without it, and for
    what is no text."""
    if not asked.body.isascii():
        try:
            asked.body.decode()  # schemas of tools stay raw: nobody has looked at them
        except UnicodeDecodeError as error:
            raise as_bad_request(error, asked.body) from None
    if chat.n is not None and chat.n != 1:
        raise bad_request("This model gives one choice per request; leave out n or send 1.", "n")
    if any(modality != "text" for modality in chat.modalities or ()):
        raise bad_request("This model answers in text only.", "modalities")
    for index, tool in enumerate(chat.tools or ()):
        if tool.function is None:
            raise bad_request("This model is given functions only.", f"tools[{index}].type")
    return chat


def encode_request(call: Call, known: Learned) -> dict[str, Any]:
    """The members of the body. What is left out is named in `call.dropped`."""
    chat: ChatRequest = call.chat
    names = tool_names(chat)
    body: dict[str, Any] = {
        "model": call.model,
        "input": _Input(names).read(chat.messages),
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {"include_obfuscation": False}
    for name in _SAME:
        value = getattr(chat, name)
        if value is not None:
            body[name] = value
    if chat.temperature == 1:
        del body["temperature"]  # the default, which reasoning models refuse to be told
    limit = chat.max_completion_tokens or chat.max_tokens
    if limit is not None:
        if chat.extras_wire != CHAT:
            limit += room_to_think(call, known, limit)
        body["max_output_tokens"] = max(min(limit, known.most_tokens or limit), _LEAST_TOKENS)
    if chat.logprobs or chat.top_logprobs:
        body["include"].append("message.output_text.logprobs")
    _say_tools(call, body, names)
    _say_extras(call, body)
    if must_name_json(chat):
        line = {"type": "message", "role": "system", "content": JSON_ALONE}
        body["input"].insert(0, line)
    if text := _text(chat):
        body["text"] = text
    if reasoning := _reasoning(call, known):
        body["reasoning"] = reasoning
    for name in known.refused - {"reasoning_effort"}:
        word = "max_output_tokens" if name == "max_completion_tokens" else name
        if body.pop(word, None) is not None:
            drop(call, name)
    if chat.messages and chat.messages[-1].role == "assistant":
        drop(call, "prefill")  # it is read, and not gone on with
    return body


def _say_extras(call: Call, body: dict[str, Any]) -> None:
    """What the fronts know besides, and the names of what is left out of it."""
    chat: ChatRequest = call.chat
    for name in ("prompt_cache_key", "service_tier"):
        if (value := getattr(chat, name)) is not None:
            body[name] = value
    left_out = dropped_parameters(chat, _UNSAYABLE) + dropped_in_messages(chat)
    if chat.extras_wire == CHAT:
        body |= {name: chat.extras[name] for name in _SAME_EXTRAS if name in chat.extras}
    said = {*body, "verbosity"}
    if chat.extras_wire == CHAT:
        said.discard("store")  # the body says the opposite
    left_out += [name for name in extra_names(chat) if name not in said]
    drop(call, *left_out)


def _text(chat: ChatRequest) -> dict[str, Any]:
    """The shape of the answer, and how wordy it is to be."""
    text: dict[str, Any] = {}
    wanted = dict(chat.response_format or {})
    holder = wanted.pop("json_schema", None)
    if holder is not None:
        # In the chat wire the schema's members stand one level deeper.
        try:
            wanted |= msgspec.json.decode(holder, type=dict[str, Raw] | None) or {}
        except msgspec.ValidationError:
            at = "response_format.json_schema"
            raise bad_request(f"{at}: must be an object.", at) from None
    if wanted:
        text["format"] = wanted
    if "verbosity" in chat.extras:
        text["verbosity"] = chat.extras["verbosity"]
    return text


def _reasoning(call: Call, known: Learned) -> dict[str, Any] | None:
    """How the model is to think; None to say nothing about it."""
    chat: ChatRequest = call.chat
    effort, own = effort_of(call, known), chat.thinking
    if effort is None and own is not None and own.get("type") == "disabled":
        effort = known.effort("none")
    if own is not None and own.get("budget_tokens") is not None:
        drop(call, "thinking")
    if chat.reasoning_effort not in (None, "none") and effort is None:
        drop(call, "reasoning_effort")
    is_on = own is not None and own.get("type") != "disabled"
    if "reasoning_effort" in known.refused or (effort is None and not is_on):
        return None
    return {"summary": "auto"} if effort is None else {"effort": effort, "summary": "auto"}


# --- tools ---------------------------------------------------------------------------------------


def _say_tools(call: Call, body: dict[str, Any], names: ToolNames) -> None:
    chat: ChatRequest = call.chat
    functions = [tool.function for tool in chat.tools or () if tool.function is not None]
    functions += [] if chat.tools else chat.functions or []
    if functions:
        body["tools"] = [_tool(call, function, names) for function in functions]
    choice = chat.tool_choice
    if choice is None and chat.uses_functions:
        choice = chat.function_call
    if choice is not None and functions:
        body["tool_choice"] = _choice(choice, names)
    elif not functions:
        body.pop("parallel_tool_calls", None)
    if chat.uses_functions:
        body["parallel_tool_calls"] = False  # the older shape has room for one call


def _tool(call: Call, function: Function, names: ToolNames) -> dict[str, Any]:
    schema = function.parameters
    strict = function.strict is True
    if strict and call.chat.extras_wire != CHAT and not is_strict(plain(schema or {})):
        strict = False
        drop(call, "tools.function.strict")
    return {
        "type": "function",
        "name": names.sent(function.name),
        **({"description": function.description} if function.description else {}),
        "parameters": schema if schema is not None else {"type": "object", "properties": {}},
        "strict": strict,  # absent means strict there, where the schema can be
    }


def _choice(choice: str | Mapping[str, Any], names: ToolNames) -> Any:
    match choice:
        case {"type": "function", "function": {"name": str(name)}} | {"name": str(name)}:
            return {"type": "function", "name": names.sent(name)}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [*tools]}}:
            flat = [_choice(tool, names) for tool in tools if isinstance(tool, Mapping)]
            return {"type": "allowed_tools", "mode": mode, "tools": flat}
        case _:
            return choice


# --- messages ------------------------------------------------------------------------------------


class _Input:
    """Converts messages to input items. `_open` are the older wire's calls without a result."""

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self._open: list[tuple[str, str]] = []  # a function's name, the call's id

    def read(self, messages: list[Message]) -> list[dict[str, Any]]:
        """The items. Raises GatewayError 400 for content that Responses does not take."""
        return [
            item
            for index, message in enumerate(messages)
            for item in self._items(message, f"messages[{index}]")
        ]

    def _items(self, message: Message, at: str) -> Iterator[dict[str, Any]]:
        match message.role:
            case "assistant":
                yield from self._assistant(message, at)
            case "tool":
                yield _output(message.tool_call_id or "", message, at)
            case "function":
                same = [each for each in self._open if each[0] == message.name]
                if not same:
                    raise bad_request(
                        "name must be that of the function called in a message before it.",
                        f"{at}.name",
                    )
                self._open.remove(same[0])
                yield _output(same[0][1], message, at)
            case role:
                content = message.content
                if content is not None and not isinstance(content, str):
                    content = list(_parts(content, at))  # type: ignore[arg-type]
                yield {"type": "message", "role": role, "content": content or ""}

    def _assistant(self, message: Message, at: str) -> Iterator[dict[str, Any]]:
        said: list[dict[str, str]] = [_said(part, at) for part in message.parts()]
        if message.refusal:
            said.append({"type": "refusal", "refusal": message.refusal})
        calls = message.tool_calls or []
        if message.function_call is not None and not calls:
            id = "call_" + sha256(at.encode()).hexdigest()[:24]
            self._open.append((message.function_call.name, id))
            calls = [ToolCallRequest(id, function=message.function_call)]
        if not said and not calls:
            return  # a thought that nothing follows is refused
        yield from _thoughts(message.thinking_blocks)
        if said:
            is_plain = all(part["type"] == "output_text" for part in said)
            content = "".join(part["text"] for part in said) if is_plain else said
            yield {"type": "message", "role": "assistant", "content": content}
        for index, call in enumerate(calls):
            yield from _thoughts(call.thinking_blocks)
            function = call.function
            if function is None:
                path = f"{at}.tool_calls[{index}].type"
                raise bad_request("Only calls of functions can be told this model.", path)
            yield {
                "type": "function_call",
                "call_id": _short(call.id or ""),
                "name": self._names.sent(function.name),
                "arguments": function.arguments or "{}",
            }


def _said(part: Part, at: str) -> dict[str, str]:
    """What the assistant has said."""
    if part.type == "refusal":
        return {"type": "refusal", "refusal": part.refusal or ""}
    if part.type != "text":
        raise bad_request("An assistant's part must be of type text or refusal.", f"{at}.content")
    return {"type": "output_text", "text": part.text or ""}


def _output(call_id: str, message: Message, at: str) -> dict[str, Any]:
    output: Any = message.result()
    parts = message.parts()
    if media := [part for part in parts if part.type != "text"]:
        told = [Part("text", text=output), *media] if message.is_error else parts
        output = list(_parts(told, at))
    return {"type": "function_call_output", "call_id": _short(call_id), "output": output}


def _thoughts(blocks: Iterable[Mapping[str, Any]] | None) -> Iterator[dict[str, Any]]:
    """OpenAI's own thoughts; those of other houses mean nothing there."""
    for block in blocks or ():
        found = read_mark(str(block.get("signature") or ""))
        if found is None or found[0] != "o":
            continue
        try:
            thought = msgspec.json.decode(found[1], type=Encrypted)
        except UNREADABLE:
            continue
        yield {
            "type": "reasoning",
            "id": thought.id,
            "summary": [],
            "encrypted_content": thought.encrypted_content,
        }


def _parts(parts: Iterable[Part], at: str) -> Iterator[dict[str, Any]]:
    for index, part in enumerate(parts):
        match part.type:
            case "text":
                yield {"type": "input_text", "text": part.text or ""}
            case "refusal":
                yield {"type": "input_text", "text": part.refusal or ""}
            case "image_url" if part.image_address():
                detail = getattr(part.image_url, "detail", None) or "auto"
                url = part.image_address()
                yield {"type": "input_image", "image_url": url, "detail": detail}
            case "file" if part.file is not None:
                yield {"type": "input_file", **_file(part.file)}
            case kind:
                path = f"{at}.content[{index}].type"
                raise bad_request(
                    f"{path}: a part of type {kind[:64]!r} cannot be told this model.", path
                )


def _file(file: File) -> dict[str, str]:
    if file.file_id:
        return {"file_id": file.file_id}
    if file.url:
        return {"file_url": file.url}
    data = file.file_data or ""
    if not data.startswith("data:"):
        kind = media_type(first_bytes(data), "", file.filename or "")
        data = f"data:{kind or 'application/pdf'};base64,{data}"
    return {"filename": file.filename or "file", "file_data": data}


def _short(call_id: str) -> str:
    """The id as it may be sent; the same for the call and its result."""
    if len(call_id) <= _LONGEST_ID:
        return call_id
    return "call_" + sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]
