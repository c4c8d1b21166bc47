"""generateContent bodies: the little that routing needs, and the whole as the neutral request.

The model and the method stand in the path. What another upstream cannot be told is refused where
the answer would be another one; else it is left out and named. What every client sends and nobody
means is never named. Protocol sheet: front-gemini, 1 and 3.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.fronts.gemini.contents import read_contents
from app.fronts.gemini.functions import Tools, json_schema, read_choice, read_tools
from app.fronts.gemini.schema import (
    Body,
    CountTokens,
    GenerationConfig,
    ThinkingConfig,
    Whole,
    in_camel_case,
)
from app.fronts.gemini.wrapped import MEMBER
from app.wire.asked import UNREADABLE, Asked, as_bad_request, read_mended
from app.wire.chat import ChatRequest, Tool, plain, read_members
from app.wire.errors import bad_request
from app.wire.front import Incoming
from app.wire.provider import Wire
from app.wire.query import first_value, without
from app.wire.strict_schema import is_strict

WIRE: Wire = "gemini"
GENERATE = ("generateContent", "streamGenerateContent")
COUNT = "countTokens"
EMBED = ("embedContent", "batchEmbedContents")
METHODS = (*GENERATE, COUNT, *EMBED)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_NAMES = 32
# What a caller calls the members of the neutral request.
_WORDS = {
    "thinking_blocks": "contents.parts.thoughtSignature",
    "max_completion_tokens": "generationConfig.maxOutputTokens",
    "temperature": "generationConfig.temperature",
    "top_p": "generationConfig.topP",
    "top_k": "generationConfig.topK",
    "n": "generationConfig.candidateCount",
    "stop": "generationConfig.stopSequences",
    "seed": "generationConfig.seed",
    "presence_penalty": "generationConfig.presencePenalty",
    "frequency_penalty": "generationConfig.frequencyPenalty",
    "logprobs": "generationConfig.responseLogprobs",
    "top_logprobs": "generationConfig.logprobs",
    "response_format": "generationConfig.responseMimeType",
    "reasoning_effort": "generationConfig.thinkingConfig",
    "tool_choice": "toolConfig",
    "service_tier": "serviceTier",
}


def word(member: str) -> str:
    """What a caller calls a member of the neutral request."""
    return _WORDS.get(member, member)


class GeminiOptions(Struct, frozen=True):
    """What this front needs to know of the request besides."""

    is_array: bool = False  # a stream as one JSON array, which is what comes without `alt=sse`


class NoSuchMethod(Exception):
    """The path names no method that is offered here."""


def method_of(target: str) -> tuple[str, str]:
    """Model and method of a path below the version: `models/NAME:METHOD`.

    The name may hold slashes and colons, and the `models/` may be missing. Raises NoSuchMethod.
    """
    name, _, method = unquote(target).rpartition(":")
    model = name.removeprefix("models/")
    if not model or method not in METHODS:
        raise NoSuchMethod
    return model, method


def is_array(method: str, query: str) -> bool:
    """Whether the answer is a stream as one JSON array."""
    return method == "streamGenerateContent" and first_value(query, "alt") != "sse"


def glance_for(families: Sequence[str]) -> Callable[[Incoming], Asked]:
    """The `glance` of this front. `families` name the gateway's own members of a body."""
    members: list[tuple[str, Any, Any]] = [("provider", str | UnsetType | None, UNSET)]
    members += [(name, Raw | UnsetType, UNSET) for name in families]
    decode = msgspec.json.Decoder(msgspec.defstruct("GeminiGlance", members)).decode

    def glance(incoming: Incoming) -> Asked:
        """Raises GatewayError 400 for what is no JSON object."""
        model, method = method_of(incoming.params["target"])
        is_stream = method == "streamGenerateContent"
        query = incoming.query

        def read(body: bytes) -> Asked:
            found: Any = decode(body)
            own = {name: raw for name in families if (raw := getattr(found, name)) is not UNSET}
            named = () if found.provider is UNSET else ("provider",)
            return Asked(
                body=body,
                model=model,
                provider=found.provider or None if named else None,
                stream=is_stream,
                members=own,
                own_names=(*own, *named),
                query=without(query, ("key",)),
                method=method,
                api_version=incoming.params["version"],
                options=GeminiOptions(is_array(method, query)),
            )

        return read_mended(incoming.body, read)

    return glance


_body = msgspec.json.Decoder(Body)
_count = msgspec.json.Decoder(CountTokens)
_config = msgspec.json.Decoder(GenerationConfig | None)
_KNOWN = frozenset((*Body.__struct_encode_fields__, "system_instruction", "generation_config"))
_KNOWN_CONFIG = frozenset(GenerationConfig.__struct_encode_fields__)


def read(asked: Asked) -> ChatRequest:
    """The neutral request. Raises GatewayError 400 naming the member that is wrong or missing."""
    try:
        data = in_camel_case(asked.body)
        if not data.isascii():
            data.decode()  # schemas stay raw: nobody has looked at them
        body = _body.decode(data)
        config = _config.decode(body.generation_config) or GenerationConfig()
        tools = read_tools(body.tools or [])
    except UNREADABLE as error:
        raise as_bad_request(error, asked.body) from None
    _refuse_what_lives_at_google(body, config)
    talk = read_contents(body.system_instruction, body.contents)
    if not any(message.role != "system" for message in talk.messages):
        raise bad_request("contents is not specified", "contents")
    chat = ChatRequest(
        messages=talk.messages,
        model=asked.model,
        stream=asked.stream,
        max_completion_tokens=_whole(config.max_output_tokens, "maxOutputTokens"),
        n=_choices(config.candidate_count),
        stop=[stop for stop in config.stop_sequences or () if stop] or None,
        seed=_whole(config.seed, "seed"),
        presence_penalty=config.presence_penalty or None,
        frequency_penalty=config.frequency_penalty or None,
        logprobs=config.response_logprobs or None,
        top_logprobs=_whole(config.logprobs, "logprobs"),
        cuts_stops=True,
        extras_wire=WIRE,
    )
    _say_sampling(chat, config)
    _say_tools(chat, body, tools)
    _say_format(chat, config)
    _say_thinking(chat, config.thinking_config)
    chat.dropped = _dropped(asked, data, body, [*talk.dropped, *tools.dropped])
    return chat


def read_counted(asked: Asked) -> ChatRequest:
    """The messages whose tokens countTokens is to count, alone or of a whole request."""
    try:
        data = in_camel_case(asked.body, CountTokens)
        inner = bytes(_count.decode(data).generate_content_request)
        body = _body.decode(in_camel_case(data if inner == b"null" else inner))
        tools = read_tools(body.tools or [])
    except UNREADABLE as error:
        raise as_bad_request(error, asked.body) from None
    talk = read_contents(body.system_instruction, body.contents, is_whole=False)
    return ChatRequest(
        messages=talk.messages,
        tools=[Tool(function=function) for function in tools.functions] or None,
    )


def _refuse_what_lives_at_google(body: Body, config: GenerationConfig) -> None:
    path = ""
    if body.cached_content:
        path = "cachedContent"
    elif any(
        kind.upper() in ("IMAGE", "AUDIO", "VIDEO") for kind in config.response_modalities or ()
    ):
        path = "generationConfig.responseModalities"
    elif config.speech_config is not None:
        path = "generationConfig.speechConfig"
    elif config.image_config is not None:
        path = "generationConfig.imageConfig"
    if path:
        raise bad_request(
            f"{path}: this works with Gemini's own API only; leave it out, or ask for a gemini "
            "model.",
            path,
        )


def _whole(said: Whole | None, name: str) -> int | None:
    if said is None or said == int(said):
        return None if said is None else int(said)
    path = f"generationConfig.{name}"
    raise bad_request(f"{path}: must be a whole number.", path)


def _choices(said: Whole | None) -> int | None:
    wanted = _whole(said, "candidateCount")
    return None if wanted == 1 else wanted


# gemini-cli sends temperature 1, topP 0.95 and topK 64 with every call, which is Gemini's default.
_USUAL_TOP_K = (40, 64)
_USUAL_TOP_P = 0.95


def _say_sampling(chat: ChatRequest, config: GenerationConfig) -> None:
    """What is Gemini's default anyway is not told to others: reasoning models refuse it."""
    chat.temperature = None if config.temperature == 1 else config.temperature
    chat.top_p = config.top_p
    if chat.temperature is None and config.top_p is not None and config.top_p >= _USUAL_TOP_P:
        chat.top_p = None
    top_k = _whole(config.top_k, "topK")
    chat.top_k = None if top_k in _USUAL_TOP_K else top_k


def _say_tools(chat: ChatRequest, body: Body, tools: Tools) -> None:
    chat.server_tools = tools.server
    config = body.tool_config
    chat.tool_choice = read_choice(config.function_calling_config if config else None, tools)
    if not tools.functions:
        return
    chat.tools = [Tool(function=function) for function in tools.functions]
    if chat.tool_choice != "none":
        chat.insists["tools"] = "tools"


_OUTPUT, _ONE_WORD, _WRAPPED = "output", "one_word", "wrapped"  # names of the schema
_OF_THE_WHOLE = ("$schema", "$defs", "definitions")  # what stands at the root of a schema


def _say_format(chat: ChatRequest, config: GenerationConfig) -> None:
    mime, schema, at = config.response_mime_type, config.response_json_schema, "responseJsonSchema"
    if schema is None:
        schema, at = config.response_schema, "responseSchema"
    several = config.response_format
    for format in several if isinstance(several, list) else [several]:
        if format is None:
            continue
        if format.audio or format.image or format.video:
            path = "generationConfig.responseFormat"
            raise bad_request(f"{path}: others than Gemini answer in text only.", path)
        if format.text is not None:
            mime = format.text.mime_type or mime
            schema, at = format.text.schema or schema, "responseFormat"
    kind = (mime or "").lower().replace("_", "/")
    path = f"generationConfig.{at}"
    if schema is not None and "text/plain" not in kind:
        schema = json_schema(schema, path)
        name = _ONE_WORD if kind == "text/x.enum" else _OUTPUT
        if name == _OUTPUT and not _is_object(schema):
            name = _WRAPPED
        schema = schema if name == _OUTPUT else _as_object(schema)
        said = {"name": name, "schema": schema, "strict": is_strict(plain(schema))}
        wanted = {"type": "json_schema", "json_schema": said}
    elif kind == "application/json":
        wanted = {"type": "json_object"}
    else:
        return
    chat.response_format = {name: Raw(msgspec.json.encode(v)) for name, v in wanted.items()}
    chat.insists["response_format"] = path if schema else "generationConfig.responseMimeType"


def _is_object(schema: dict[str, Raw]) -> bool:
    kind = bytes(schema.get("type", b""))
    return kind == b'"object"' or (not kind and "properties" in schema)


def _as_object(schema: dict[str, Raw]) -> dict[str, Raw]:
    """A list, a word or a number as an object, for no other API takes anything else."""
    root = {name: schema[name] for name in _OF_THE_WHOLE if name in schema}
    whole = {
        "type": "object",
        "properties": {MEMBER: {name: schema[name] for name in schema if name not in root}},
        "required": [MEMBER],
        "additionalProperties": False,
    }
    return root | {name: Raw(msgspec.json.encode(value)) for name, value in whole.items()}


def is_one_word(chat: ChatRequest | None) -> bool:
    """Whether the answer is to be one word out of several, which `_as_object` has wrapped."""
    return _has_schema_named(_ONE_WORD, chat)


def is_wrapped(chat: ChatRequest | None) -> bool:
    """Whether the answer is to be other JSON than an object, which `_as_object` has wrapped."""
    return _has_schema_named(_WRAPPED, chat)


def _has_schema_named(name: str, chat: ChatRequest | None) -> bool:
    if chat is None or chat.response_format is None:
        return False
    held = chat.response_format.get("json_schema")
    return held is not None and bytes(held).startswith(b'{"name":"%b"' % name.encode())


_STEPS = ((4096, "low"), (16384, "medium"))
_LEVELS = ("minimal", "low", "medium", "high", "xhigh")


def _say_thinking(chat: ChatRequest, config: ThinkingConfig | None) -> None:
    config = config or ThinkingConfig()
    chat.thoughts = "shown" if config.include_thoughts else "omitted"
    level = (config.thinking_level or "").lower()
    budget = _whole(config.thinking_budget, "thinkingConfig.thinkingBudget")
    if level and level != "thinking_level_unspecified":
        if level not in _LEVELS:
            path = "generationConfig.thinkingConfig.thinkingLevel"
            raise bad_request(f"{path}: must be one of {', '.join(_LEVELS).upper()}.", path)
        chat.reasoning_effort = level
    elif budget == 0:
        chat.reasoning_effort, chat.thoughts = "none", "off"
    elif budget is not None and budget > 0:
        chat.thinking_budget = budget
        chat.reasoning_effort = next((word for most, word in _STEPS if budget < most), "high")


def _dropped(asked: Asked, data: bytes, body: Body, named: list[str]) -> list[str]:
    """The names of what was left out, fit for a header."""
    names = list(named)
    if (body.service_tier or "").lower() in ("flex", "priority"):
        names.append("serviceTier")
    names += _unknown(read_members(data), {*_KNOWN, *asked.own_names}, "")
    config = bytes(body.generation_config)
    if config.lstrip()[:1] == b"{":
        names += _unknown(read_members(config), _KNOWN_CONFIG, "generationConfig.")
    return [name for name in dict.fromkeys(names) if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMES]


def _unknown(members: dict[str, Raw], known: frozenset[str] | set[str], at: str) -> list[str]:
    return [
        at + name for name, raw in members.items() if name not in known and bytes(raw) != b"null"
    ]
