"""An OpenAI chat request as a generateContent body, and a native body made ready to send.

Pure: the same request gives the same bytes. What Gemini cannot honour is dropped and named when
that is harmless, and refused with 400 when it would change what the caller gets. Rules of order
(who may speak after whom, results after calls) follow Google's published API reference.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.wire.asked import Asked
from app.wire.chat import (
    ChatRequest,
    FunctionCall,
    Message,
    Tool,
    ToolCallRequest,
    not_json,
    read_members,
)
from app.wire.errors import GatewayError, bad_request, from_validation
from app.wire.surrogates import mend
from providers.gemini import schema
from providers.gemini.media import Learned, to_media
from providers.gemini.schema import (
    FunctionCallingConfig,
    FunctionDeclaration,
    FunctionResponse,
    GenerateContentRequest,
    RequestContent,
    RequestPart,
    ResponsePart,
    ToolConfig,
    ToolList,
)
from providers.gemini.signatures import PLACEHOLDER, REMEMBERED, Signatures

# What only travels on stays bytes (Raw): numbers keep every digit.


class GoogleExtras(Struct):
    """Gemini's own settings inside an OpenAI body, named as Google's OpenAI layer names them."""

    safety_settings: list[Raw] | None = None
    generation_config: dict[str, Raw] | None = None
    thinking_config: dict[str, Raw] | None = None
    cached_content: str | None = None


class ExtraBody(Struct):
    google: GoogleExtras | None = None


class JsonSchema(Struct):
    schema: dict[str, Raw] | None = None


class ResponseFormat(Struct):
    type: str | None = None
    json_schema: JsonSchema | None = None


class Extras(Struct, frozen=True):
    """Google's extensions of OpenAI's request, and what is only looked at to be dropped."""

    safety_settings: list[Raw] | None = None
    generation_config: dict[str, Raw] | None = None
    thinking_config: dict[str, Raw] | None = None
    cached_content: str | None = None
    extra_body: ExtraBody | None = None
    audio: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    moderation: Raw | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    prompt_cache_key: Raw | UnsetType = UNSET
    prompt_cache_options: Raw | UnsetType = UNSET
    prompt_cache_retention: Raw | UnsetType = UNSET
    service_tier: Raw | UnsetType = UNSET
    store: Raw | UnsetType = UNSET
    verbosity: Raw | UnsetType = UNSET
    web_search_options: Raw | UnsetType = UNSET


class Chat(ChatRequest, kw_only=True):
    """The neutral request with Google's extensions, and `response_format` typed."""

    google: Extras = Extras()
    wanted: ResponseFormat | None = None


_DROPPED = (
    "metadata",
    "moderation",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "service_tier",
    "store",
    "verbosity",
    "web_search_options",
)

_read_extras = msgspec.json.Decoder(Extras).decode
_format = msgspec.json.Decoder(ResponseFormat)
_object = msgspec.json.Decoder(dict[str, Raw])
_NO_JSON = (msgspec.DecodeError, ValueError, RecursionError)


def read(chat: ChatRequest, asked: Asked) -> Chat:
    """The request with what Google's OpenAI layer knows besides.

    Raises GatewayError 400 naming the member that is wrong.
    """
    known = {}
    if chat.extras_wire == "openai-chat":
        known = {n: chat.extras[n] for n in Extras.__struct_fields__ if n in chat.extras}
    values = {name: getattr(chat, name) for name in ChatRequest.__struct_fields__}
    try:
        google = _read_extras(msgspec.json.encode(known)) if known else Extras()
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except _NO_JSON as error:
        raise not_json(asked.body, error) from None
    return Chat(**values, google=google, wanted=_wanted(chat))


def _wanted(chat: ChatRequest) -> ResponseFormat | None:
    if chat.response_format is None:
        return None
    try:
        return _format.decode(msgspec.json.encode(chat.response_format))
    except msgspec.ValidationError as error:
        wrong = from_validation(error)
        wrong.param = f"response_format.{wrong.param}" if wrong.param else "response_format"
        raise wrong from None


class Model:
    """What a model's name tells: where it stands in a URL, and what it can be sent. Not to be
    changed: calls share it."""

    def __init__(self, name: str, version: str) -> None:
        if not _MODEL.fullmatch(name) or ".." in name or len(name) > 200:
            raise bad_request(
                f"{name[:100]!r} is not a name of a Gemini model; GET /c/v1/models lists them.",
                "model",
            )
        self.name = name
        self.path = name if "/" in name else f"models/{name}"
        self.version = version
        bare = name.rpartition("/")[2].lower()
        self.generation = _generation(bare)
        self.is_pro = "-pro" in bare
        # v1 has no systemInstruction, and neither have the Gemma models.
        self.takes_system = version != "v1" and not bare.startswith("gemma")
        self.fetches_urls = self.generation >= (2, 5)
        self.insists_on_signatures = self.generation >= (3, 0)
        # Older ones take a result's pictures only beside it.
        newest = self.generation >= (3, 0) and version != "v1"
        self.in_results = _IN_RESULTS if newest else frozenset()
        self.thinks = (
            self.generation >= (2, 5)
            and version != "v1"
            and not any(kind in bare for kind in ("-image", "-tts", "-live", "embedding"))
        )


_MODEL = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9][\w.@-]*", re.ASCII)
_IN_RESULTS = frozenset(("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"))
_GENERATION = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?![\d.])")


def _generation(bare: str) -> tuple[int, int]:
    found = _GENERATION.match(bare)
    if found:
        return int(found[1]), int(found[2] or 0)
    if re.fullmatch(r"gemini-(pro|flash|flash-lite)-latest", bare):
        return 3, 6 if "flash" in bare else 1
    return 0, 0  # unknown: nothing new is taken for granted


class Names:
    """Function names as Gemini takes them, and the way back.

    OpenAI allows less than Gemini, but callers send more (blanks, slashes): those characters
    become `_`, and two names that become one are told apart by a number.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._sent: dict[str, str] = {}
        self.renamed: dict[str, str] = {}  # sent -> the caller's, only where they differ
        good: list[str] = []
        bad: list[str] = []
        for name in names:
            (good if _NAME.fullmatch(name) else bad).append(name)
        self._taken = set(good)
        for name in bad:
            self.sent(name)

    def sent(self, name: str) -> str:
        if _NAME.fullmatch(name):
            return name
        sent = self._sent.get(name)
        if sent is None:
            stem = re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)[:60]
            stem = stem if _NAME.fullmatch(stem) else f"_{stem}"
            sent, count = stem, 1
            while sent in self._taken:
                count += 1
                sent = f"{stem[:60]}_{count}"
            self._taken.add(sent)
            self._sent[name] = sent
            self.renamed[sent] = name
        return sent


_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")


def function_names(chat: Chat) -> Names:
    tools = [tool.function.name for tool in chat.tools or [] if tool.function is not None]
    return Names(tools + [function.name for function in chat.functions or []])


def to_generate_content(
    chat: Chat, model: Model, learned: Learned, signatures: Signatures = REMEMBERED
) -> tuple[bytes, list[str]]:
    """The body, and the names of the parameters that were dropped."""
    names = function_names(chat)
    dropped = _dropped(chat)
    contents, system = _Conversation(model, names, learned, signatures).read(chat.messages)
    tools = _tools(chat, names)
    extras = _extras(chat)
    request = GenerateContentRequest(
        contents=contents,
        system_instruction=RequestContent(system) if system else None,
        tools=[ToolList(tools)] if tools else None,
        tool_config=_tool_config(chat, tools, names),
        generation_config=_generation_config(chat, model, extras, dropped),
        safety_settings=extras.safety_settings,
        cached_content=extras.cached_content,
    )
    return _encode(request), dropped


def _encode(request: Any) -> bytes:
    try:
        return msgspec.json.encode(request)
    except (OverflowError, RecursionError, ValueError) as error:
        raise bad_request(f"The request cannot be written as JSON: {error}.") from None


def _dropped(chat: Chat) -> list[str]:
    if chat.google.audio is not UNSET and bytes(chat.google.audio) != b"null":
        raise bad_request("Gemini's chat answers have no audio; leave `audio` out.", "audio")
    dropped = [
        name
        for name in _DROPPED
        if (value := getattr(chat.google, name)) is not UNSET and bytes(value) != b"null"
    ]
    if chat.tools and chat.functions:
        dropped.append("functions")
    if chat.logit_bias:
        dropped.append("logit_bias")
    # Most current models refuse penalties altogether, and a chat without them is no worse.
    if chat.presence_penalty:
        dropped.append("presence_penalty")
    if chat.frequency_penalty:
        dropped.append("frequency_penalty")
    if chat.parallel_tool_calls is False:
        dropped.append("parallel_tool_calls")
    if chat.user:
        dropped.append("user")
    if chat.safety_identifier:
        dropped.append("safety_identifier")
    if chat.has_cache_marks():
        dropped.append("cache_control")
    return dropped


# Messages


class _Slot(Struct):
    """A tool call that waits for its result."""

    id: str | None
    name: str  # as the caller says it
    sent: FunctionResponse
    media: list[RequestPart] = []  # of the result, where it cannot stand inside it
    filled: bool = False


class _Conversation:
    """Messages in, contents out: merged by role, results in the order of their calls."""

    def __init__(
        self, model: Model, names: Names, learned: Learned, signatures: Signatures
    ) -> None:
        self._model, self._names, self._learned = model, names, learned
        self._signatures = signatures
        self._contents: list[RequestContent] = []
        self._system: list[RequestPart] = []
        self._slots: list[_Slot] = []

    def read(self, messages: list[Message]) -> tuple[list[RequestContent], list[RequestPart]]:
        """The contents, and the parts of the system instruction."""
        for i, message in enumerate(messages):
            at = f"messages[{i}]"
            if message.role not in ("tool", "function"):
                self._close_calls()
            match message.role:
                case "system" | "developer":
                    self._system += self._texts(message, at)
                case "user":
                    self._add("user", self._parts(message, at))
                case "assistant":
                    self._assistant(message, at)
                case "tool":
                    self._result(message, at)
                case "function":
                    self._legacy_result(message, at)
                case _:
                    raise bad_request(
                        f"{message.role!r} is not a role; use system, developer, user,"
                        " assistant or tool.",
                        f"{at}.role",
                    )
        if any(slot.filled for slot in self._slots):
            self._close_calls()
        return self._checked(messages)

    def _checked(self, messages: list[Message]) -> tuple[list[RequestContent], list[RequestPart]]:
        contents, system = self._contents, self._system
        if not contents and any(message.role == "user" for message in messages):
            self._add("user", [RequestPart(text="")])  # an empty question is taken, none is not
        if not contents and system:
            # OpenAI answers a lone system message, Gemini only a user.
            self._add("user", system)
            return contents, []
        if not contents:
            raise bad_request(
                "messages must hold at least one message of the user or the assistant.",
                "messages",
            )
        if system and not self._model.takes_system:
            if contents[0].role != "user":
                contents.insert(0, RequestContent([], "user"))
            contents[0].parts[:0] = system
            system = []
        if contents[0].role != "user":
            contents.insert(0, RequestContent([RequestPart(text=".")], "user"))
        return contents, system

    def _add(self, role: str, parts: list[RequestPart]) -> None:
        if not parts:
            return
        if self._contents and self._contents[-1].role == role:
            self._contents[-1].parts += parts
        else:
            self._contents.append(RequestContent(parts, role))

    def _texts(self, message: Message, at: str) -> list[RequestPart]:
        """A message that may hold only text."""
        for j, part in enumerate(message.parts()):
            if part.type != "text":
                raise bad_request(
                    f"A message of the role {message.role} may hold only text.",
                    f"{at}.content[{j}].type",
                )
        return [RequestPart(text=part.text) for part in message.parts() if part.text]

    def _parts(self, message: Message, at: str) -> list[RequestPart]:
        parts = []
        for j, part in enumerate(message.parts()):
            if part.type in ("text", "refusal"):
                text = part.text or part.refusal
                if text:
                    parts.append(RequestPart(text=text))
            else:
                parts.append(to_media(part, f"{at}.content[{j}]", self._learned))
        return parts

    def _assistant(self, message: Message, at: str) -> None:
        parts = self._parts(message, at)
        if message.refusal:
            parts.append(RequestPart(text=message.refusal))
        calls = message.tool_calls or []
        where = f"{at}.tool_calls"
        if not calls and message.function_call is not None:
            calls = [ToolCallRequest(function=message.function_call)]
            where = f"{at}.function_call"
        slots = []
        for k, call in enumerate(calls):
            path = f"{where}[{k}]" if message.tool_calls else where
            if call.function is None or not call.function.name:
                raise bad_request("A tool call needs a function with a name.", f"{path}.function")
            parts.append(self._call(call, call.function, path, is_first=k == 0))
            slots.append(self._slot(call.id, call.function.name))
        self._add("model", parts)
        self._slots = slots

    def _call(
        self, call: ToolCallRequest, function: FunctionCall, at: str, *, is_first: bool
    ) -> RequestPart:
        arguments = mend(((function.arguments or "").strip() or "{}").encode())
        try:
            _object.decode(arguments)
        except _NO_JSON:
            raise bad_request(
                "The arguments of a tool call must be the text of a JSON object.",
                f"{at}.function.arguments" if "tool_calls" in at else f"{at}.arguments",
            ) from None
        signature = _signature(call.extra_content) or (
            self._signatures.recall(call.id, function.name) if call.id else None
        )
        if signature is None and is_first and self._model.insists_on_signatures:
            signature = PLACEHOLDER
        sent = schema.FunctionCall(
            self._names.sent(function.name), Raw(arguments), _upstream_id(call.id)
        )
        return RequestPart(function_call=sent, thought_signature=signature)

    def _slot(self, call_id: str | None, name: str) -> _Slot:
        # A call without a result gets an empty one: Gemini refuses unequal numbers.
        response = FunctionResponse(self._names.sent(name), {"result": ""}, _upstream_id(call_id))
        return _Slot(call_id, name, response)

    def _result(self, message: Message, at: str) -> None:
        same = [slot for slot in self._slots if slot.id == message.tool_call_id]
        if not same:
            raise bad_request(
                f"No tool call with the id {message.tool_call_id!r} stands in the assistant"
                " message before this result.",
                f"{at}.tool_call_id",
            )
        self._fill(same, message, f"{at}.tool_call_id", at)

    def _legacy_result(self, message: Message, at: str) -> None:
        same = [slot for slot in self._slots if slot.name == message.name]
        if not same:
            raise bad_request(
                f"No call of the function {message.name!r} stands in the assistant message"
                " before this result.",
                f"{at}.name",
            )
        self._fill(same, message, f"{at}.name", at)

    def _fill(self, slots: list[_Slot], message: Message, param: str, at: str) -> None:
        slot = next((slot for slot in slots if not slot.filled), None)
        if slot is None:
            raise bad_request("This tool call has had its result already.", param)
        parts = self._parts(message, at)
        slot.sent.response = _response("".join(part.text or "" for part in parts))
        for part in parts:
            blob = part.inline_data
            if blob is not None and blob.mime_type in self._model.in_results:
                slot.sent.parts = [*(slot.sent.parts or ()), ResponsePart(blob)]
            elif part.text is None:
                slot.media.append(part)
        slot.filled = True

    def _close_calls(self) -> None:
        """All results of one assistant message go into one content, in the order of the calls."""
        if self._slots:
            slots, self._slots = self._slots, []
            self._add("user", [RequestPart(function_response=slot.sent) for slot in slots])
            self._add("user", [part for slot in slots for part in slot.media])


def _response(text: str) -> Any:
    """A result that is a JSON object is that object; anything else stands under `result`."""
    stripped = text.strip()
    if stripped.startswith("{"):
        body = mend(stripped.encode())
        try:
            _object.decode(body)
        except _NO_JSON:
            pass
        else:
            return Raw(body)
    return {"result": text}


_GENERATED_ID = re.compile(r"call_[0-9a-f]{24}")


def _upstream_id(call_id: str | None) -> str | None:
    """Ids that Gemini gave go back to it; the ones this gateway made up would be news to it."""
    return None if call_id is None or _GENERATED_ID.fullmatch(call_id) else call_id


def _signature(extra: dict[str, Any] | None) -> str | None:
    google = (extra or {}).get("google")
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None


# Tools


def _all_tools(chat: Chat) -> tuple[list[Tool], str]:
    if chat.tools:
        return chat.tools, "tools"
    return [Tool(function=function) for function in chat.functions or []], "functions"


def _tools(chat: Chat, names: Names) -> list[FunctionDeclaration]:
    tools, at = _all_tools(chat)
    declarations = []
    for k, tool in enumerate(tools):
        if tool.type != "function":
            raise bad_request(
                f"Gemini has no tools of type {tool.type!r}; use function.", f"{at}[{k}].type"
            )
        function = tool.function
        if function is None or not function.name:
            raise bad_request("A tool needs a function with a name.", f"{at}[{k}].function")
        declarations.append(
            FunctionDeclaration(
                names.sent(function.name),
                function.description or None,
                _schema(function.parameters) or None,
            )
        )
    return declarations


def _schema(given: dict[str, Raw] | None) -> dict[str, Raw]:
    """JSON Schema as it is, without what Gemini refuses at the top."""
    return {name: _text(raw) for name, raw in (given or {}).items() if name not in _NOT_SCHEMA}


def _text(raw: Raw) -> Raw:
    try:
        bytes(raw).decode()  # what is only passed on has not been looked at
    except UnicodeDecodeError as error:
        raise not_json(bytes(raw), error) from None
    return raw


_NOT_SCHEMA = ("$schema", "strict")


def _tool_config(chat: Chat, tools: list[FunctionDeclaration], names: Names) -> ToolConfig | None:
    choice, at = chat.tool_choice, "tool_choice"
    if choice is None and chat.function_call is not None:
        choice, at = chat.function_call, "function_call"
        if isinstance(choice, dict):
            choice = {"type": "function", "function": choice}
    mode, allowed = _read_choice(choice, at)
    if not tools:
        if mode == "ANY" or allowed:
            raise bad_request("A tool cannot be demanded without `tools`.", at)
        return None
    declared = {tool.name for tool in tools}
    sent = [names.sent(name) for name in allowed]
    for name, word in zip(allowed, sent, strict=True):
        if word not in declared:
            raise bad_request(f"{name!r} is not among the tools.", at)
    functions = [tool.function for tool in _all_tools(chat)[0]]
    strict = any(function is not None and function.strict for function in functions)
    # Names may only be given with ANY and VALIDATED.
    if mode == "AUTO" and (strict or allowed):
        mode = "VALIDATED"
    if mode == "AUTO":
        return None
    return ToolConfig(FunctionCallingConfig(mode, sent or None))


def _read_choice(choice: Any, at: str) -> tuple[str, list[str]]:
    match choice:
        case None | "auto":
            return "AUTO", []
        case "none":
            return "NONE", []
        case "required":
            return "ANY", []
        case {"type": "function", "function": {"name": str(name)}} if name:
            return "ANY", [name]
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}} if (
            mode in ("auto", "required") and tools
        ):
            return "ANY" if mode == "required" else "AUTO", [_allowed(tool, at) for tool in tools]
        case _:
            raise bad_request(
                "Use auto, none, required, a function or allowed_tools of functions.", at
            )


def _allowed(tool: Any, at: str) -> str:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} if name:
            return name
        case _:
            raise bad_request("Every allowed tool must be a function with a name.", at)


# Generation settings


def _extras(chat: Chat) -> GoogleExtras:
    """Google's members, those inside `extra_body.google` before those beside `messages`."""
    google = chat.google
    inner = (google.extra_body and google.extra_body.google) or GoogleExtras()
    return GoogleExtras(
        inner.safety_settings or google.safety_settings,
        inner.generation_config or google.generation_config,
        inner.thinking_config or google.thinking_config,
        inner.cached_content or google.cached_content or None,
    )


def _generation_config(
    chat: Chat, model: Model, extras: GoogleExtras, dropped: list[str]
) -> dict[str, Any]:
    config: dict[str, Any] = {}
    limit, at = chat.max_completion_tokens, "max_completion_tokens"
    if limit is None:
        limit, at = chat.max_tokens, "max_tokens"
    if limit is not None:
        config["maxOutputTokens"] = _within(limit, at, 1, 2**31 - 1)
    if chat.temperature is not None:
        config["temperature"] = _within(chat.temperature, "temperature", 0, 2)
    if chat.top_p is not None:
        config["topP"] = _within(chat.top_p, "top_p", 0, 1)
    if chat.top_k is not None:
        config["topK"] = _within(chat.top_k, "top_k", 1, 2**31 - 1)
    if chat.n is not None and _within(chat.n, "n", 1, 8) > 1:
        config["candidateCount"] = chat.n
    stop = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    stop = [word for word in stop if word]
    if len(stop) > 5:
        raise bad_request("Gemini takes at most 5 stop sequences.", "stop")
    if stop:
        config["stopSequences"] = stop
    if chat.seed is not None:
        # OpenAI's seed has 64 bits, Gemini's 32: equal seeds stay equal.
        config["seed"] = (chat.seed + 2**31) % 2**32 - 2**31
    if chat.logprobs:
        config["responseLogprobs"] = True
    if chat.top_logprobs is not None:
        if not chat.logprobs:
            raise bad_request("top_logprobs needs `logprobs: true`.", "top_logprobs")
        config["logprobs"] = min(_within(chat.top_logprobs, "top_logprobs", 0, 2**31), 20)
    _say_modalities(chat, config)
    _say_response_format(chat, config)
    _say_thinking(chat, model, extras, config, dropped)
    if extras.generation_config:
        given = _camel_keys(extras.generation_config)
        if "responseSchema" in given:
            config.pop("responseJsonSchema", None)
        thinking = given.get("thinkingConfig")
        if thinking is not None and bytes(thinking).startswith(b"{"):
            given["thinkingConfig"] = Raw(_encode(_camel_keys(_object.decode(thinking))))
        config.update(given)
    if extras.thinking_config:
        config["thinkingConfig"] = _camel_keys(extras.thinking_config)
    return config


def _within(value: Any, name: str, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise bad_request(f"{name} must be between {low} and {high}.", name)
    return value


def _say_modalities(chat: Chat, config: dict[str, Any]) -> None:
    wanted = [word.lower() for word in chat.modalities or []]
    for word in wanted:
        if word not in ("text", "image"):
            raise bad_request(
                f"Gemini's chat answers cannot be {word!r}; use text or image.", "modalities"
            )
    if "image" in wanted:
        config["responseModalities"] = [word.upper() for word in wanted]


def _say_response_format(chat: Chat, config: dict[str, Any]) -> None:
    wanted = chat.wanted
    if wanted is None or wanted.type == "text":
        return
    if wanted.type not in ("json_object", "json_schema"):
        raise bad_request("Use text, json_object or json_schema.", "response_format.type")
    config["responseMimeType"] = "application/json"
    if wanted.type == "json_object":
        return
    if wanted.json_schema is None:
        raise bad_request(
            "json_schema must be an object with a `schema`.", "response_format.json_schema"
        )
    if wanted.json_schema.schema is not None:
        config["responseJsonSchema"] = _schema(wanted.json_schema.schema)


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192}


def _say_thinking(
    chat: Chat,
    model: Model,
    extras: GoogleExtras,
    config: dict[str, Any],
    dropped: list[str],
) -> None:
    effort = chat.reasoning_effort
    if effort is None:
        return
    if effort not in _EFFORTS:
        raise bad_request(f"Use one of {', '.join(_EFFORTS)}.", "reasoning_effort")
    if extras.thinking_config:
        return  # the caller said it in Gemini's own words
    if not model.thinks:
        dropped.append("reasoning_effort")
        return
    thinking: dict[str, Any] = {}
    if model.generation >= (3, 0):
        thinking["thinkingLevel"] = _level(effort, model)
    elif effort == "none":
        thinking["thinkingBudget"] = 128 if model.is_pro else 0  # 2.5 Pro cannot stop thinking
    else:
        thinking["thinkingBudget"] = _BUDGETS.get(effort, 24576)
    if effort != "none":
        thinking["includeThoughts"] = True
    config["thinkingConfig"] = thinking


def _level(effort: str, model: Model) -> str:
    has_minimal = not model.is_pro and model.generation != (3, 7)
    match effort:
        case "none" | "minimal":
            return "MINIMAL" if has_minimal else "LOW"
        case "low":
            return "LOW"
        case "medium":
            return "HIGH" if model.is_pro and model.generation == (3, 0) else "MEDIUM"
        case _:
            return "HIGH"


def _camel_keys(given: Mapping[str, Raw]) -> dict[str, Raw]:
    """snake_case is accepted too, but not beside the same member in camelCase."""
    return {
        re.sub(r"_([a-z])", lambda m: m[1].upper(), name): _text(v) for name, v in given.items()
    }


# Native bodies

_NOT_NATIVE = ("model", "stream", "stream_options")


def read_native(asked: Asked) -> dict[str, Raw]:
    """A generateContent body with the gateway's members taken out, values untouched."""
    body = asked.body
    members = read_members(body)
    try:
        body.decode()  # values that are only passed on have not been looked at
    except UnicodeDecodeError as error:
        raise not_json(body, error) from None
    native = {
        name: raw for name, raw in members.items() if name not in (*asked.own_names, *_NOT_NATIVE)
    }
    if "contents" not in native:
        raise bad_request(
            "A generateContent body needs `contents`; OpenAI bodies belong to"
            " /c/v1/chat/completions.",
            "contents",
        )
    for name in ("systemInstruction", "system_instruction"):
        if name in native:
            native[name] = _folded(native[name], name)
    return native


def native_body(members: dict[str, Raw]) -> bytes:
    return _encode(members)


def _folded(raw: Raw, name: str) -> Raw:
    """A system instruction as one Content. Text, and arrays of contents (which the Go project
    demanded) are folded."""
    given = bytes(raw)
    if given[:1] not in (b'"', b"["):
        return raw
    try:
        decoded = msgspec.json.decode(given, type=str | list[str | dict[str, Raw]])
    except _NO_JSON as error:
        raise _not_an_instruction(name, error) from None
    parts: list[Any] = []
    for one in [decoded] if isinstance(decoded, str) else decoded:
        if isinstance(one, str):
            parts.append({"text": one})
        elif "parts" in one:
            try:
                parts += msgspec.json.decode(one["parts"], type=list[Raw])
            except _NO_JSON as error:
                raise _not_an_instruction(name, error) from None
        else:
            parts.append(one)
    return Raw(_encode({"parts": parts}))


def _not_an_instruction(name: str, error: Exception) -> GatewayError:
    return bad_request(f"{name} must be a Content, text or an array of them: {error}.", name)
