"""Gemini's generateContent as the simulated model gives it: the request in, bytes out, no I/O.

The text answers "You said: <the last user text>". A function is called where the request forces it
or the prompt names it (tool_choice.py); function responses are repeated. Models of the third
generation insist on thought signatures, as the real ones do. Shapes, order of members and blanks
follow Google's published API and recorded answers of 2026.
"""

import base64
import binascii
import json
import re
import secrets
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from msgspec import Struct

from app.simulator.examples import example
from app.simulator.faults import Fault
from app.simulator.tool_choice import choose

JSON = dict[str, Any]

PLACEHOLDERS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
THOUGHTS = "**Considering the question**\n\nThe user said something; it has to be said back.\n\n"
THOUGHT_TOKENS = 17
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
# What version v1 has never heard of.
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


class Lease(Struct, frozen=True):
    """A request as it was understood: camelCase members, the model's generation."""

    model: str
    version: str
    generation: tuple[int, int]
    body: JSON
    contents: list[JSON]
    config: JSON

    @property
    def declarations(self) -> list[JSON]:
        return [one for tool in self.body.get("tools") or [] for one in declared(tool)]


def generation_of(model: str) -> tuple[int, int]:
    bare = model.rpartition("/")[2]
    if found := _GENERATION.match(bare):
        return int(found[1]), int(found[2] or 0)
    if re.fullmatch(r"gemini-(flash|flash-lite|pro)-latest", bare):
        return 3, 6
    # Invented names (sim-..., missing-...) behave as a current model of the second generation.
    return (0, 0) if bare.startswith("gemma") else (2, 5)


def camel(value: Any) -> Any:
    """snake_case member names are taken too; free-form members keep theirs."""
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
    found = tool.get("functionDeclarations") if isinstance(tool, dict) else None
    return [each for each in found or [] if isinstance(each, dict)]


def read_turn(given: Any, model: str, version: str) -> Lease | Problem:
    """The request as it is meant, or the first thing Gemini would refuse in it."""
    if not isinstance(given, dict):
        return Problem("Invalid JSON payload received. Expected an object.")
    body = camel(given)
    allowed = BODY - NOT_V1 if version == "v1" else BODY
    if unknown := _unknown(body, allowed, ""):
        return unknown
    config = body.get("generationConfig") or {}
    if not isinstance(config, dict):
        return _not_that("generation_config", config)
    allowed = CONFIG - CONFIG_NOT_V1 if version == "v1" else CONFIG
    if unknown := _unknown(config, allowed, "generation_config"):
        return unknown
    contents = body.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not contents:
        return Problem("* GenerateContentRequest.contents: contents is not specified\n")
    if not isinstance(contents, list):
        return _not_that("contents", contents)
    turn = Lease(model, version, generation_of(model), body, contents, config)
    return (
        _content_problem(turn)
        or _order_problem(turn)
        or _signature_problem(turn)
        or _config_problem(turn)
        or _tool_problem(turn)
        or turn
    )


def _unknown(given: JSON, allowed: frozenset[str], at: str) -> Problem | None:
    for name in given:
        if name not in allowed:
            where = f" at '{at}'" if at else ""
            said = f'Invalid JSON payload received. Unknown name "{name}"{where}: '
            return Problem(said + "Cannot find field.", at or "")
    return None


def _not_that(at: str, value: Any) -> Problem:
    said = f"Invalid value at '{at}', {json.dumps(value)[:80]}"
    return Problem(said, at)


def _parts(content: JSON) -> list[JSON]:
    found = content.get("parts") or []
    return [found] if isinstance(found, dict) else list(found)


def _content_problem(turn: Lease) -> Problem | None:
    system = turn.body.get("systemInstruction")
    if system is not None and not isinstance(system, dict):
        return _not_that("system_instruction", system)
    if system is not None and turn.generation == (0, 0):
        return Problem("Developer instruction is not enabled for models/" + turn.model)
    for at, content in enumerate(turn.contents):
        where = f"contents[{at}]"
        if not isinstance(content, dict):
            return _not_that(where, content)
        if content.get("role") not in (None, "user", "model", "function"):
            return Problem("Please use a valid role: user, model.")
        parts = _parts(content)
        if not parts:
            said = f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.\n"
            return Problem(said)
        for number, part in enumerate(parts):
            if wrong := _part_problem(turn, part, f"{where}.parts[{number}]"):
                return wrong
    return None


def _part_problem(turn: Lease, part: Any, at: str) -> Problem | None:
    if not isinstance(part, dict):
        return _not_that(at, part)
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
        if not uri or (not is_own and turn.generation < (2, 5)):
            return Problem("Unsupported file uri: " + uri)
    if (response := part.get("functionResponse")) is not None and not (
        isinstance(response, dict) and isinstance(response.get("response"), dict)
    ):
        return _not_that(f"{at}.function_response.response", response)
    call = part.get("functionCall")
    if call is not None and not isinstance(call.get("args", {}), dict):
        return _not_that(f"{at}.function_call.args", call.get("args"))
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
    return [part["functionCall"] for part in _parts(content) if "functionCall" in part]


def _responses(content: JSON) -> list[JSON]:
    return [part["functionResponse"] for part in _parts(content) if "functionResponse" in part]


def _order_problem(turn: Lease) -> Problem | None:
    before: JSON | None = None
    for content in turn.contents:
        is_model = content.get("role") == "model"
        if _calls(content) and is_model and (before is None or before.get("role") == "model"):
            return Problem(
                "Please ensure that function call turn comes immediately after a user turn or"
                " after a function response turn."
            )
        if before is not None and _calls(before):
            if len(_responses(content)) != len(_calls(before)):
                return Problem(
                    "Please ensure that the number of function response parts is equal to the"
                    " number of function call parts of the function call turn."
                )
        elif _responses(content):
            return Problem(
                "Please ensure that function response turn comes immediately after a function"
                " call turn."
            )
        before = content
    if before is not None and _calls(before):
        return Problem(
            "Please ensure that the number of function response parts is equal to the number of"
            " function call parts of the function call turn."
        )
    return None


def _signature_problem(turn: Lease) -> Problem | None:
    """Each step of the current turn: what came after the last thing the user really said."""
    asked = [
        at
        for at, content in enumerate(turn.contents)
        if content.get("role") != "model" and not _responses(content)
    ]
    for at, content in enumerate(turn.contents):
        calls = [part for part in _parts(content) if "functionCall" in part]
        if not calls:
            continue
        for part in calls:
            signature = str(part.get("thoughtSignature") or "")
            name = str(part["functionCall"].get("name"))
            if _signed_name(signature) not in (None, name):
                return Problem("Thought signature is not valid")
        current = at > (asked[-1] if asked else -1)
        if turn.generation >= (3, 0) and current and not calls[0].get("thoughtSignature"):
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
    """The state that goes with a call, long as the real ones are."""
    return base64.b64encode(SIGNATURE_MARK + name.encode() + b"\0" + bytes(range(150))).decode()


def _signed_name(signature: str) -> str | None:
    """The call a signature of ours belongs to, None for one of anybody else."""
    if not _is_base64(signature):
        return None
    raw = base64.b64decode(signature.replace("-", "+").replace("_", "/") + "==")
    if not raw.startswith(SIGNATURE_MARK):
        return None
    return raw[len(SIGNATURE_MARK) :].partition(b"\0")[0].decode("utf-8", "replace")


def _config_problem(turn: Lease) -> Problem | None:
    config, generation = turn.config, turn.generation
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
            return _not_that(f"generation_config.{name}", value)
        if not least <= value <= most:
            return Problem(
                f"Unable to submit request because it has a {name} value of {value} but the"
                f" supported range is from {least} (inclusive) to {most + 1} (exclusive)."
            )
    seed = config.get("seed")
    if seed is not None and not (isinstance(seed, int) and -(2**31) <= seed < 2**31):
        return _not_that("generation_config.seed", seed)
    if len(config.get("stopSequences") or []) > 5:
        return Problem("The number of stop_sequences must not exceed 5.")
    current = generation >= (2, 5)
    if (config.get("candidateCount") or 1) > 1 and current:
        return Problem("Multiple candidates is not enabled for this model")
    if (config.get("presencePenalty") or config.get("frequencyPenalty")) and current:
        return Problem("Penalty is not enabled for this model")
    if config.get("responseLogprobs") and current:
        return Problem("Logprobs is not enabled for this model")
    return _shape_problem(config) or _thinking_problem(turn)


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


def _thinking_problem(turn: Lease) -> Problem | None:
    thinking = turn.config.get("thinkingConfig")
    if thinking is None:
        return None
    if not isinstance(thinking, dict):
        return _not_that("generation_config.thinking_config", thinking)
    names = frozenset(("includeThoughts", "thinkingBudget", "thinkingLevel"))
    if unknown := _unknown(thinking, names, "generation_config.thinking_config"):
        return unknown
    if turn.generation < (2, 5):
        return Problem("Unable to submit request because thinking is not supported by this model.")
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level is not None and budget is not None:
        return Problem("You can only set only one of thinking budget and thinking level.")
    if level is not None and turn.generation < (3, 0):
        return Problem("Thinking level is not supported for this model.")
    is_pro = "-pro" in turn.model
    if is_pro and budget == 0:
        return Problem("Budget 0 is invalid. This model only works in thinking mode.")
    if is_pro and str(level).upper() == "MINIMAL":
        return Problem("Thinking level MINIMAL is not supported for this model.")
    return None


def _tool_problem(turn: Lease) -> Problem | None:
    tools = turn.body.get("tools") or []
    if not isinstance(tools, list):
        return _not_that("tools", tools)
    names: list[str] = []
    for at, declaration in enumerate(turn.declarations):
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
    calling = (turn.body.get("toolConfig") or {}).get("functionCallingConfig") or {}
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


class Answer:
    """One answer to one request, to be told in each of the three transports."""

    def __init__(self, turn: Lease, fault: Fault) -> None:
        self.turn = turn
        self.fault = fault
        self.id = secrets.token_urlsafe(17)
        self.is_third = turn.generation >= (3, 0)
        self.count = int(turn.config.get("candidateCount") or 1)
        self.question = self._last_text()
        thinking = turn.config.get("thinkingConfig") or {}
        self.tells_thoughts = bool(thinking.get("includeThoughts"))
        self.thinks = self.tells_thoughts or (self.is_third or "-pro" in turn.model)
        self.candidate_tokens = 0
        texts = [
            str(part.get("text") or "") for content in turn.contents for part in _parts(content)
        ]
        self.prompt_tokens = sum(len(text.split()) + 4 for text in texts)

    def _last_text(self) -> str:
        for content in reversed(self.turn.contents):
            if content.get("role") != "model" and not _responses(content):
                return "".join(str(part.get("text") or "") for part in _parts(content))
        return ""

    # what is said ------------------------------------------------------------------------------

    @property
    def calls(self) -> list[JSON]:
        """The function calls of this answer, as parts."""
        turn = self.turn
        calling = (turn.body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        mode = str(calling.get("mode") or "AUTO").upper()
        if _responses(turn.contents[-1]) or mode == "NONE":
            return []
        wanted = calling.get("allowedFunctionNames")
        declared = {
            str(one["name"]): one
            for one in turn.declarations
            if not wanted or one["name"] in wanted
        }
        parts: list[JSON] = []
        for call in choose(list(declared), self.question, is_forced=mode == "ANY"):
            one = declared[call.name]
            schema = one.get("parametersJsonSchema") or one.get("parameters")
            # Of parallel calls only the first is signed.
            signed = {} if parts else {"thoughtSignature": sign(call.name)}
            said = {"name": call.name, "args": call.arguments(schema)}
            parts.append({"functionCall": said, **signed})
        return parts

    def _text(self, index: int) -> str:
        config = self.turn.config
        if config.get("responseMimeType") == "application/json":
            schema = config.get("responseJsonSchema") or config.get("responseSchema")
            given = example(schema, self.question) if schema else {"answer": self.question}
            return json.dumps(given, ensure_ascii=False)
        if said := _responses(self.turn.contents[-1]):
            told = json.dumps([one["response"] for one in said], ensure_ascii=False)
            return f"The tool said: {told}"
        text = f"You said: {self.question}"
        return text if index == 0 else f"{text} (candidate {index})"

    def _pieces(self, index: int) -> tuple[list[str], str]:
        """The text in pieces, and the finish reason."""
        config, text = self.turn.config, self._text(index)
        for stop in config.get("stopSequences") or []:
            text = text.split(stop, 1)[0] if stop else text
        is_json = config.get("responseMimeType") == "application/json"
        # A piece may end anywhere, even inside a word.
        pieces = re.findall(r"(?s).{1,9}", text) if is_json else list(self.fault.pieces(text))
        most = config.get("maxOutputTokens")
        if most is not None and most < len(pieces):
            return pieces[:most], "MAX_TOKENS"
        return pieces, "STOP"

    def _told(self, index: int) -> Iterator[tuple[list[JSON] | None, str | None]]:
        """The parts of each chunk of one candidate, and the finish reason with the last one."""
        model, most = self.turn.model, self.turn.config.get("maxOutputTokens")
        if model.startswith("malformed-"):
            yield None, "MALFORMED_FUNCTION_CALL"
            return
        if self.fault.refusal:
            yield None, "SAFETY"
            return
        if "-pro" in model and most is not None and most <= THOUGHT_TOKENS:
            yield None, "MAX_TOKENS"  # all spent on thinking
            return
        if self.tells_thoughts:
            yield [{"text": THOUGHTS, "thought": True}], None
        if calls := self.calls:
            self.candidate_tokens += 10 * len(calls)
            yield calls, None if self.is_third else "STOP"
            if self.is_third:
                yield [{"text": ""}], "STOP"
            return
        pieces, reason = self._pieces(index)
        for number, piece in enumerate(pieces):
            self.candidate_tokens += 1
            is_last = number == len(pieces) - 1 and not self.is_third
            yield [{"text": piece}], reason if is_last else None
        if self.is_third or not pieces:
            signed = {"thoughtSignature": sign("")} if self.is_third else {}
            yield [{"text": "", **signed}], reason

    # as objects --------------------------------------------------------------------------------

    def objects(self) -> Iterator[JSON]:
        """The chunks of a stream."""
        if self.turn.model.startswith("blocked-"):
            yield self._object(None, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
            return
        voices = [self._voice(index) for index in range(self.count)]
        for row in zip_longest(*voices):  # one candidate per chunk, taking turns
            for candidate in filter(None, row):
                yield self._object([candidate])

    def whole(self) -> JSON:
        """The same as one object: texts of a kind joined."""
        objects = list(self.objects())
        if "candidates" not in objects[0]:
            return objects[0]
        candidates: dict[int, JSON] = {}
        for one in objects:
            for candidate in one["candidates"]:
                held = candidates.setdefault(candidate["index"], {})
                parts = held.get("content", {}).get("parts", [])
                for part in candidate["content"].get("parts") or []:
                    if parts and _joins(parts[-1], part):
                        parts[-1] = {**parts[-1], **part, "text": parts[-1]["text"] + part["text"]}
                    elif part != {"text": ""}:
                        parts.append(part)
                held.update(candidate)
                held["content"] = {**candidate["content"], **({"parts": parts} if parts else {})}
        return self._object(list(candidates.values()))

    def _voice(self, index: int) -> Iterator[JSON]:
        for parts, reason in self._told(index):
            content: JSON = {} if reason == "SAFETY" else {"role": "model"}
            candidate: JSON = {
                "content": content if parts is None else {"parts": parts, "role": "model"}
            }
            if reason:
                candidate["finishReason"] = reason
            candidate["index"] = index
            if reason == "SAFETY":
                candidate["safetyRatings"] = [
                    {"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}
                ]
            if reason == "MALFORMED_FUNCTION_CALL":
                candidate["finishMessage"] = "Malformed function call: f(("
            if self.turn.config.get("responseLogprobs") and parts and parts[0].get("text"):
                candidate["logprobsResult"] = self._logprobs(parts[0]["text"])
            yield candidate

    def _logprobs(self, text: str) -> JSON:
        chosen = {"token": text, "tokenId": 7, "logProbability": -0.25}
        count = int(self.turn.config.get("logprobs") or 0)
        top = [{**chosen, "logProbability": -0.25 - other} for other in range(count)]
        return {"topCandidates": [{"candidates": top}], "chosenCandidates": [chosen]}

    def _object(self, candidates: list[JSON] | None, more: JSON | None = None) -> JSON:
        said: JSON = {} if candidates is None else {"candidates": candidates}
        return {
            **said,
            **(more or {}),
            "usageMetadata": self._usage(),
            "modelVersion": self.turn.model.removeprefix("models/"),
            "responseId": self.id,
        }

    def _usage(self) -> JSON:
        usage: JSON = {"promptTokenCount": self.prompt_tokens}
        if self.candidate_tokens:
            usage["candidatesTokenCount"] = self.candidate_tokens
        thoughts = THOUGHT_TOKENS if self.thinks else 0
        usage["totalTokenCount"] = self.prompt_tokens + self.candidate_tokens + thoughts
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self.prompt_tokens}]
        if thoughts:
            usage["thoughtsTokenCount"] = thoughts
        usage["serviceTier"] = "standard"
        return usage

    # as bytes ----------------------------------------------------------------------------------

    def events(self) -> Iterator[bytes]:
        """alt=sse: each object on one line, CRLF CRLF behind it, no [DONE]."""
        end = b"\n\n" if self.fault.crlf else b"\r\n\r\n"  # the fault itself makes LF to CRLF
        for one in self.objects():
            yield b"data: " + on_one_line(one) + end

    def array(self) -> Iterator[bytes]:
        """Without alt=sse: one pretty-printed array, element by element."""
        before = b"["
        for one in self.objects():
            yield before + pretty(one)
            before = b"\n,\r\n"
        yield b"\n]"


def _joins(before: JSON, part: JSON) -> bool:
    return "text" in before and "text" in part and before.get("thought") == part.get("thought")


def on_one_line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ": ")).encode()


def pretty(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode()
