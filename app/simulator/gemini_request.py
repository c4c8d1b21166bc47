"""Gemini's generateContent request: read, and refused where the real API refuses it; no I/O.

Models of the third generation insist on thought signatures, as the real ones do.
"""

import base64
import binascii
import json
import re
from typing import Any

from msgspec import Struct

JSON = dict[str, Any]
PLACEHOLDERS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
SIGNATURE_MARK = b"simulated:"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BODY = _names(
    """contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent
    serviceTier store"""
)
CONFIG = _names(
    """temperature topP topK candidateCount maxOutputTokens stopSequences responseMimeType
    responseSchema responseJsonSchema seed presencePenalty frequencyPenalty responseLogprobs
    logprobs responseModalities mediaResolution speechConfig imageConfig thinkingConfig
    enableEnhancedCivicAnswers audioTimestamp"""
)
PART = _names(
    """text thought thoughtSignature inlineData fileData functionCall functionResponse
    executableCode codeExecutionResult videoMetadata partMetadata mediaResolution"""
)
DECLARATION = _names(
    """name description parameters parametersJsonSchema response responseJsonSchema behavior"""
)
# What version v1 does not know of models before the third generation.
NOT_V1 = _names("systemInstruction tools toolConfig cachedContent")
CONFIG_NOT_V1 = _names(
    "responseMimeType responseSchema responseJsonSchema thinkingConfig responseModalities"
)
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")


class Problem(Struct, frozen=True):
    """A 400 INVALID_ARGUMENT; `field` is set when the JSON itself does not fit."""

    message: str
    field: str | None = None


class GenerateRequest(Struct, frozen=True):
    """A checked request: camelCase members, the model's generation."""

    model: str
    version: str
    generation: tuple[int, int]
    body: JSON
    contents: list[JSON]
    config: JSON

    @property
    def declarations(self) -> list[JSON]:
        """The function declarations of all tools."""
        return [one for tool in self.body.get("tools") or [] for one in declared(tool)]

    @property
    def calling(self) -> JSON:
        """The functionCallingConfig: whether a function may or must be called, and which."""
        return (self.body.get("toolConfig") or {}).get("functionCallingConfig") or {}


def generation_of(model: str) -> tuple[int, int]:
    """The model's generation (major, minor); (0, 0) for Gemma."""
    bare = model.rpartition("/")[2]
    if found := _GENERATION.match(bare):
        return int(found[1]), int(found[2] or 0)
    if re.fullmatch(r"gemini-(flash|flash-lite|pro)-latest", bare):
        return 3, 6
    # Invented names (sim-..., missing-...) behave as a current model of the second generation.
    return (0, 0) if bare.startswith("gemma") else (2, 5)


def camel(value: Any) -> Any:
    """The value with snake_case member names in camelCase; free-form members stay as they are."""
    if isinstance(value, list):
        return [camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for name, member in value.items():
        name = re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
        free = ("args", "response", "parameters", "parametersJsonSchema", "responseJsonSchema")
        out[name] = member if name in (*free, "responseSchema") else camel(member)
    return out


def declared(tool: Any) -> list[JSON]:
    """The function declarations of one tool."""
    found = tool.get("functionDeclarations") if isinstance(tool, dict) else None
    return [each for each in found or [] if isinstance(each, dict)]


def read_request(given: Any, model: str, version: str) -> GenerateRequest | Problem:
    """The request, or the first thing that Gemini would refuse in it."""
    if not isinstance(given, dict):
        return Problem("Invalid JSON payload received. Expected an object.")
    body = camel(given)
    is_old = version == "v1" and generation_of(model) < (3, 0)
    allowed = BODY - NOT_V1 if is_old else BODY
    if unknown := _unknown(body, allowed, ""):
        return unknown
    config = body.get("generationConfig") or {}
    if not isinstance(config, dict):
        return _wrong_value("generation_config", config)
    allowed = CONFIG - CONFIG_NOT_V1 if is_old else CONFIG
    if unknown := _unknown(config, allowed, "generation_config"):
        return unknown
    contents = body.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not contents:
        return Problem("* GenerateContentRequest.contents: contents is not specified\n")
    if not isinstance(contents, list):
        return _wrong_value("contents", contents)
    request = GenerateRequest(model, version, generation_of(model), body, contents, config)
    return (
        _content_problem(request)
        or _order_problem(request)
        or _signature_problem(request)
        or _config_problem(request)
        or _tool_problem(request)
        or request
    )


def _unknown(given: JSON, allowed: frozenset[str], at: str) -> Problem | None:
    for name in given:
        if name not in allowed:
            where = f" at '{at}'" if at else ""
            said = f'Invalid JSON payload received. Unknown name "{name}"{where}: '
            return Problem(said + "Cannot find field.", at or "")
    return None


def _wrong_value(at: str, value: Any) -> Problem:
    said = f"Invalid value at '{at}', {json.dumps(value)[:80]}"
    return Problem(said, at)


def parts_of(content: JSON) -> list[JSON]:
    """The parts of a content; one part may stand without a list."""
    found = content.get("parts") or []
    return [found] if isinstance(found, dict) else list(found)


def _content_problem(request: GenerateRequest) -> Problem | None:
    system = request.body.get("systemInstruction")
    if system is not None and not isinstance(system, dict):
        return _wrong_value("system_instruction", system)
    if system is not None and request.generation == (0, 0):
        return Problem("Developer instruction is not enabled for models/" + request.model)
    for at, content in enumerate(request.contents):
        where = f"contents[{at}]"
        if not isinstance(content, dict):
            return _wrong_value(where, content)
        if content.get("role") not in (None, "user", "model", "function", "tool"):
            return Problem("Please use a valid role: user, model.")
        parts = parts_of(content)
        if not parts:
            said = f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.\n"
            return Problem(said)
        for number, part in enumerate(parts):
            if wrong := _part_problem(request, part, f"{where}.parts[{number}]"):
                return wrong
    return None


def _part_problem(request: GenerateRequest, part: Any, at: str) -> Problem | None:
    if not isinstance(part, dict):
        return _wrong_value(at, part)
    if unknown := _unknown(part, PART, at):
        return unknown
    if not any(name in part for name in PART if name not in ("thought", "thoughtSignature")):
        return Problem(
            f"* GenerateContentRequest.{at}.data: required oneof field 'data' must have one"
            " initialized field\n"
        )
    if (blob := part.get("inlineData")) is not None:
        if not isinstance(blob, dict) or not blob.get("mimeType"):
            return Problem("Unable to process input image. Please retry with a mime type.")
        if not _is_base64(blob.get("data")):
            return Problem(f"Invalid value at '{at}.inline_data.data' (TYPE_BYTES)", at)
    if (file := part.get("fileData")) is not None:
        uri = str(file.get("fileUri") or "") if isinstance(file, dict) else ""
        is_own = "/files/" in uri or "youtu" in uri
        if not uri or (not is_own and request.generation < (2, 5)):
            return Problem("Unsupported file uri: " + uri)
    if (response := part.get("functionResponse")) is not None and not (
        isinstance(response, dict) and isinstance(response.get("response"), dict)
    ):
        return _wrong_value(f"{at}.function_response.response", response)
    call = part.get("functionCall")
    if call is not None and not isinstance(call.get("args", {}), dict):
        return _wrong_value(f"{at}.function_call.args", call.get("args"))
    if "thoughtSignature" in part and not _is_signature(part["thoughtSignature"]):
        return Problem(f"Invalid value at '{at}.thought_signature' (TYPE_BYTES)", at)
    return None


def _is_base64(value: Any) -> bool:
    """Both alphabets are taken."""
    try:
        binascii.a2b_base64(
            str(value).replace("-", "+").replace("_", "/") + "=" * (-len(str(value)) % 4),
            strict_mode=True,
        )
    except (binascii.Error, ValueError):
        return False
    return isinstance(value, str) and bool(value)


def _is_signature(value: Any) -> bool:
    return value in PLACEHOLDERS or _is_base64(value)


def _calls(content: JSON) -> list[JSON]:
    return [part["functionCall"] for part in parts_of(content) if "functionCall" in part]


def responses_of(content: JSON) -> list[JSON]:
    """The function responses of a content."""
    return [part["functionResponse"] for part in parts_of(content) if "functionResponse" in part]


def _order_problem(request: GenerateRequest) -> Problem | None:
    before: JSON | None = None
    for content in request.contents:
        is_model = content.get("role") == "model"
        if _calls(content) and is_model and (before is None or before.get("role") == "model"):
            return Problem(
                "Please ensure that function call turn comes immediately after a user turn or"
                " after a function response request."
            )
        if before is not None and _calls(before):
            if len(responses_of(content)) != len(_calls(before)):
                return Problem(
                    "Please ensure that the number of function response parts is equal to the"
                    " number of function call parts of the function call request."
                )
        elif responses_of(content):
            return Problem(
                "Please ensure that function response turn comes immediately after a function"
                " call request."
            )
        before = content
    if before is not None and _calls(before):
        return Problem(
            "Please ensure that the number of function response parts is equal to the number of"
            " function call parts of the function call request."
        )
    return None


def _signature_problem(request: GenerateRequest) -> Problem | None:
    """Each step of the current turn: what came after the last thing the user really said."""
    asked = [
        at
        for at, content in enumerate(request.contents)
        if content.get("role") != "model" and not responses_of(content)
    ]
    for at, content in enumerate(request.contents):
        calls = [part for part in parts_of(content) if "functionCall" in part]
        if not calls:
            continue
        for part in calls:
            signature = str(part.get("thoughtSignature") or "")
            name = str(part["functionCall"].get("name"))
            if _signed_name(signature) not in (None, name):
                return Problem("Thought signature is not valid")
        current = at > (asked[-1] if asked else -1)
        if request.generation >= (3, 0) and current and not calls[0].get("thoughtSignature"):
            name = calls[0]["functionCall"].get("name")
            return Problem(
                "Function call is missing a thought_signature in functionCall parts. This is"
                " required for tools to work correctly, and missing thought_signature may lead to"
                f" degraded model performance. Additional data, function call `default_api:{name}`"
                f" , position {at}. Please refer to"
                " https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )
    return None


def sign(name: str) -> str:
    """A thought signature for a call, as long as the real ones."""
    return base64.b64encode(SIGNATURE_MARK + name.encode() + b"\0" + bytes(range(150))).decode()


def _signed_name(signature: str) -> str | None:
    """The call a signature of ours belongs to, None for one of anybody else."""
    if not _is_base64(signature):
        return None
    raw = base64.b64decode(signature.replace("-", "+").replace("_", "/") + "==")
    if not raw.startswith(SIGNATURE_MARK):
        return None
    return raw[len(SIGNATURE_MARK) :].partition(b"\0")[0].decode("utf-8", "replace")


def _config_problem(request: GenerateRequest) -> Problem | None:
    config, generation = request.config, request.generation
    for name, least, most in (
        ("temperature", 0, 2),
        ("topP", 0, 1),
        ("topK", 1, 2**31),
        ("maxOutputTokens", 1, 2**31),
        ("candidateCount", 1, 8),
    ):
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return _wrong_value(f"generation_config.{name}", value)
        if not least <= value <= most:
            return Problem(
                f"Unable to submit request because it has a {name} value of {value} but the"
                f" supported range is from {least} (inclusive) to {most + 1} (exclusive)."
            )
    seed = config.get("seed")
    if seed is not None and not (isinstance(seed, int) and -(2**31) <= seed < 2**31):
        return _wrong_value("generation_config.seed", seed)
    if len(config.get("stopSequences") or []) > 5:
        return Problem("The number of stop_sequences must not exceed 5.")
    current = generation >= (2, 5)
    if (config.get("candidateCount") or 1) > 1 and current:
        return Problem("Multiple candidates is not enabled for this model")
    if (config.get("presencePenalty") or config.get("frequencyPenalty")) and current:
        return Problem("Penalty is not enabled for this model")
    if config.get("responseLogprobs") and current:
        return Problem("Logprobs is not enabled for this model")
    return _shape_problem(config) or _thinking_problem(request)


def _shape_problem(config: JSON) -> Problem | None:
    schemas = [name for name in ("responseSchema", "responseJsonSchema") if config.get(name)]
    if len(schemas) == 2:
        return Problem("Only one of response_schema and response_json_schema may be set.")
    if schemas and config.get("responseMimeType") not in ("application/json", "text/x.enum"):
        return Problem(
            "* GenerateContentRequest.generation_config.response_schema: only allowed when"
            " response_mime_type is `application/json` or `text/x.enum`\n"
        )
    return None


def _thinking_problem(request: GenerateRequest) -> Problem | None:
    thinking = request.config.get("thinkingConfig")
    if thinking is None:
        return None
    if not isinstance(thinking, dict):
        return _wrong_value("generation_config.thinking_config", thinking)
    names = frozenset(("includeThoughts", "thinkingBudget", "thinkingLevel"))
    if unknown := _unknown(thinking, names, "generation_config.thinking_config"):
        return unknown
    if request.generation < (2, 5):
        return Problem("Unable to submit request because thinking is not supported by this model.")
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level is not None and budget is not None:
        return Problem("You can only set only one of thinking budget and thinking level.")
    if level is not None and request.generation < (3, 0):
        return Problem("Thinking level is not supported for this model.")
    is_pro = "-pro" in request.model
    if is_pro and budget == 0:
        return Problem("Budget 0 is invalid. This model only works in thinking mode.")
    if is_pro and str(level).upper() == "MINIMAL":
        return Problem("Thinking level MINIMAL is not supported for this model.")
    return None


def _tool_problem(request: GenerateRequest) -> Problem | None:
    tools = request.body.get("tools") or []
    if not isinstance(tools, list):
        return _wrong_value("tools", tools)
    names: list[str] = []
    for at, declaration in enumerate(request.declarations):
        where = f"tools[0].function_declarations[{at}]"
        if unknown := _unknown(declaration, DECLARATION, where):
            return unknown
        name = declaration.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return Problem(
                f"* GenerateContentRequest.{where}.name: [FieldNameInvalid] Invalid function name."
                " Must start with a letter or an underscore.\n"
            )
        if name in names:
            return Problem(f"Duplicate function declaration found: {name}")
        if "parameters" in declaration and "parametersJsonSchema" in declaration:
            return Problem("Only one of parameters and parameters_json_schema may be set.")
        names.append(name)
    calling = (request.body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    mode, allowed = str(calling.get("mode") or "AUTO").upper(), calling.get("allowedFunctionNames")
    if allowed and mode not in ("ANY", "VALIDATED"):
        return Problem(
            "Please set allowed_function_names only when function calling mode is ANY or VALIDATED."
        )
    if stranger := next((name for name in allowed or [] if name not in names), None):
        return Problem(
            f"`allowed_function_names` should be a subset of the declared functions: {stranger}"
        )
    if mode == "ANY" and not names:
        return Problem("Function calling mode is `ANY` but no function_declarations are provided.")
    return None
