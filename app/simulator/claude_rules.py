"""What Anthropic refuses in a Messages request: fields, order, values that a model does not take.

Pure: the parsed body in, the first problem out. The texts are those of the real API, as far as they
are known from its documentation and from recorded refusals.
"""

import hashlib
import re
from base64 import b64encode
from typing import Any

import msgspec
from msgspec import Struct

JSON = dict[str, Any]

# The top-level members of a Messages request; any other is refused, as there.
_FIELDS = """
    model messages max_tokens system stream stop_sequences temperature top_p top_k metadata
    tools tool_choice thinking output_config service_tier cache_control container inference_geo
    mcp_servers context_management speed diagnostics user_profile_id safeguards"""
KNOWN = frozenset(_FIELDS.split())
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
BLOCKS = {
    "user": ("text", "image", "document", "tool_result", "search_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking", "server_tool_use"),
    "system": ("text",),  # between the turns; unknown to models whose thinking has only a budget
    "tool_result": ("text", "image", "document", "search_result", "tool_reference"),
}
_TOOL_FIELDS = """
    type name description input_schema strict cache_control defer_loading allowed_callers
    eager_input_streaming input_examples"""
TOOL_FIELDS = frozenset(_TOOL_FIELDS.split())
TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
NEWEST = re.compile(r"claude-(opus-4-[78]|(opus|sonnet|fable|mythos)-5)(?!\d)")
BUDGET_ONLY = re.compile(r"claude-(3-\d|(opus|sonnet|haiku)-4-([015](?!\d)|20\d{6}))")
ONE_SAMPLING = re.compile(r"claude-(sonnet-4-5|haiku-4-5|opus-4-1|opus-4-5)")
NO_PREFILL = re.compile(r"claude-(opus-4-[678]|sonnet-4-6|(opus|sonnet|fable|mythos)-5)")
NO_FORCED_TOOL = re.compile(r"claude-(fable|mythos)")
MOST_TOKENS = (
    (re.compile(r"claude-3-(opus|haiku|sonnet)"), 4096),
    (re.compile(r"claude-3-5"), 8192),
    (re.compile(r"claude-opus-4-(1\b|0\b|2025)"), 32_000),
    (re.compile(r"claude-(3-7|sonnet-4-(0\b|2025|5)|haiku-4-5|opus-4-5)"), 64_000),
)
UNLIMITED = 128_000
VERSIONS = ("2023-06-01", "2026-10-21")


class Problem(Struct, frozen=True):
    """A 400. `about` is "shape" (a member is wrong), "order" (the messages' own rules) or "values"
    (something this model, or any, does not take)."""

    message: str
    about: str


def signature_of(thinking: str) -> str:
    """The simulated model's signature: it fits this thought and no other."""
    return b64encode(hashlib.sha256(b"sim-signature:" + thinking.encode()).digest()).decode()


def redacted(thought: str) -> str:
    """An opaque block's data, recognisable as ours when it comes back."""
    return b64encode(b"sim-redacted:" + thought.encode()).decode()


def refusal_of(
    body: bytes | Any, *, version: str = VERSIONS[0], signatures: bool = True
) -> Problem | None:
    """The first thing Anthropic would refuse in this request, None when it would answer."""
    if isinstance(body, bytes):
        body = msgspec.json.decode(body)
    if not isinstance(body, dict):
        return Problem("Input should be a valid dictionary", "shape")
    return (
        _fields(body)
        or (_of_2026(body) if version == VERSIONS[1] else None)
        or _messages(body)
        or _tools(body)
        or _values(body)
        or _thinking(body)
        or (_signatures(body) if signatures else None)
    )


def _fields(body: JSON) -> Problem | None:
    for name in body:
        if name not in KNOWN:
            return Problem(f"{name}: Extra inputs are not permitted", "shape")
    for name, kind, word in (
        ("model", str, "string"),
        ("max_tokens", int, "integer"),
        ("messages", list, "list"),
    ):
        if body.get(name) is None:
            return Problem(f"{name}: Field required", "shape")
        if not isinstance(body[name], kind) or isinstance(body[name], bool):
            return Problem(f"{name}: Input should be a valid {word}", "shape")
    for name, kinds, word in (
        ("stream", bool, "boolean"),
        ("system", (str, list), "string"),
        ("temperature", (int, float), "number"),
        ("top_p", (int, float), "number"),
        ("top_k", int, "integer"),
        ("stop_sequences", list, "list"),
        ("tools", list, "list"),
        ("tool_choice", dict, "dictionary"),
        ("thinking", dict, "dictionary"),
        ("metadata", dict, "dictionary"),
        ("output_config", dict, "dictionary"),
    ):
        if body.get(name) is not None and not isinstance(body[name], kinds):
            return Problem(f"{name}: Input should be a valid {word}", "shape")
    if body["max_tokens"] < 1:
        return Problem("max_tokens: Input should be greater than or equal to 1", "shape")
    for name in ("temperature", "top_p"):
        if not 0 <= (body.get(name) or 0) <= 1:
            return Problem(f"{name}: range: 0..1", "shape")
    for at, stop in enumerate(body.get("stop_sequences") or []):
        if not isinstance(stop, str) or not stop.strip():
            return Problem(
                f"stop_sequences.{at}: each stop sequence must contain non-whitespace", "shape"
            )
    if isinstance(body.get("system"), list):
        return _blank_text(body["system"], "system")
    return None


def _of_2026(body: JSON) -> Problem | None:
    """What the API version of October 2026 took away."""
    for name in ("temperature", "top_p", "top_k"):
        if name in body:
            return Problem(f"{name}: Extra inputs are not permitted", "order")
    return None


def _messages(body: JSON) -> Problem | None:
    messages = body["messages"]
    if not messages:
        return Problem("messages: at least one message is required", "order")
    asked: list[str] = []  # tool_use ids that the next message must answer
    seen: set[str] = set()
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _roles(body["model"]):
            said = "Input should be 'user' or 'assistant'"
            return Problem(f"messages.{at}.role: {said}", "shape")
        role, content = message["role"], message.get("content")
        if at == 0 and role != "user":
            return Problem('messages: first message must use the "user" role', "order")
        if at and messages[at - 1]["role"] == role != "system":
            # Today's API merges neighbours; this one keeps the old, stricter rule.
            return Problem(
                'messages: roles must alternate between "user" and "assistant", but found multiple'
                f' "{role}" roles in a row',
                "order",
            )
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            return Problem(f"messages.{at}.content: Field required", "shape")
        is_last = at == len(messages) - 1
        if not content and not (is_last and role == "assistant"):
            return Problem(
                f"messages.{at}: all messages must have non-empty content except for the optional"
                " final assistant message",
                "order",
            )
        problem = (
            _blocks(content, role, f"messages.{at}.content")
            or _results(content, asked, at)
            or _prefill(content, body, role, is_last)
        )
        if problem:
            return problem
        asked = [block["id"] for block in content if block["type"] == "tool_use"]
        if len(set(asked)) < len(asked) or seen & set(asked):
            return Problem(f"messages.{at}.content: `tool_use` ids must be unique", "order")
        seen |= set(asked)
    if asked:
        return _unanswered(asked, len(messages) - 1)
    if seen and not body.get("tools"):
        return Problem("Requests which include `tool_use` must define tools", "order")
    return None


def _roles(model: str) -> tuple[str, ...]:
    return ("user", "assistant") if BUDGET_ONLY.search(model) else ("user", "assistant", "system")


def _blocks(content: list[Any], role: str, at: str) -> Problem | None:
    for index, block in enumerate(content):
        where = f"{at}.{index}"
        if not isinstance(block, dict) or block.get("type") not in BLOCKS[role]:
            found = block.get("type") if isinstance(block, dict) else block
            return Problem(
                f"{where}: Input tag '{found}' found using 'type' is not expected", "shape"
            )
        match block["type"]:
            case "text":
                if problem := _blank_text([block], f"{at}"):
                    return problem
            case "image" | "document":
                if problem := _source(block, where):
                    return problem
            case "tool_use":
                if not isinstance(block.get("input"), dict):
                    said = "Input should be a valid dictionary"
                    return Problem(f"{where}.tool_use.input: {said}", "shape")
                if not TOOL_ID.fullmatch(str(block.get("id", ""))):
                    said = "String should match pattern '^[a-zA-Z0-9_-]+$'"
                    return Problem(f"{where}.tool_use.id: {said}", "shape")
                if not TOOL_NAME.fullmatch(str(block.get("name", ""))):
                    said = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
                    return Problem(f"{where}.tool_use.name: {said}", "values")
            case "tool_result":
                if not isinstance(block.get("tool_use_id"), str):
                    return Problem(f"{where}.tool_result.tool_use_id: Field required", "shape")
                inner = block.get("content")
                if isinstance(inner, list):
                    if problem := _blocks(inner, "tool_result", f"{where}.tool_result.content"):
                        return problem
                elif not isinstance(inner, str | None):
                    said = "Input should be a valid string"
                    return Problem(f"{where}.tool_result.content: {said}", "shape")
            case "thinking":
                if not block.get("signature") or not isinstance(block.get("thinking"), str):
                    return Problem(f"{where}.thinking.signature: Field required", "shape")
    return None


def _blank_text(blocks: list[Any], at: str) -> Problem | None:
    for block in blocks:
        if not isinstance(block, dict) or not isinstance(block.get("text"), str):
            return Problem(f"{at}: Input should be a valid string", "shape")
        if not block["text"]:
            return Problem(f"{at}: text content blocks must be non-empty", "order")
        if not block["text"].strip():
            return Problem(f"{at}: text content blocks must contain non-whitespace text", "order")
    return None


def _source(block: JSON, at: str) -> Problem | None:
    source = block.get("source")
    if not isinstance(source, dict):
        return Problem(f"{at}.{block['type']}.source: Field required", "shape")
    media_type, data = source.get("media_type"), source.get("data")
    match source.get("type"):
        case "url":
            if not str(source.get("url")).lower().startswith(("http://", "https://")):
                return Problem("Only HTTPS URLs are supported", "shape")
        case "base64":
            allowed = IMAGE_TYPES if block["type"] == "image" else ("application/pdf",)
            if media_type not in allowed:
                said = "Input should be " + " or ".join(map(repr, allowed))
                return Problem(f"{at}.{block['type']}.source.base64.media_type: {said}", "shape")
            if not re.fullmatch(
                r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", str(data or "?")
            ):
                said = "invalid base64 data"
                return Problem(f"{at}.{block['type']}.source.base64.data: {said}", "shape")
        case "text" if block["type"] == "document":
            if media_type != "text/plain" or not isinstance(data, str):
                said = "Input should be 'text/plain'"
                return Problem(f"{at}.document.source.text.media_type: {said}", "shape")
        case "file":
            pass
        case other:
            return Problem(f"{at}.source: Input tag '{other}' is not expected", "shape")
    return None


def _results(content: list[JSON], asked: list[str], at: int) -> Problem | None:
    results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
    for found in results:
        if found not in asked:
            return Problem(
                f"messages.{at}.content: unexpected `tool_use_id` found in `tool_result` blocks:"
                f" {found}. Each `tool_result` block must have a corresponding `tool_use` block in"
                " the previous message.",
                "order",
            )
    if len(set(results)) < len(results):
        said = "each tool_use must have a single result. Found multiple `tool_result` blocks"
        return Problem(f"messages.{at}.content: {said}", "order")
    first = [block["type"] for block in content[: len(results)]]
    if any(kind != "tool_result" for kind in first) or set(results) != set(asked):
        missing = [found for found in asked if found not in results] or asked
        return _unanswered(missing, at - 1)
    return None


def _unanswered(ids: list[str], at: int) -> Problem:
    return Problem(
        f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after:"
        f" {', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in"
        " the next message.",
        "order",
    )


def _prefill(content: list[JSON], body: JSON, role: str, is_last: bool) -> Problem | None:
    if role != "assistant" or not content:
        return None
    final = content[-1]
    if final["type"] in ("thinking", "redacted_thinking"):
        said = "The final block in an assistant message cannot be `thinking`."
        return Problem(f"messages: {said}", "order")
    if not is_last or final["type"] == "tool_use":
        return None
    if final["type"] == "text" and final["text"] != final["text"].rstrip():
        said = "final assistant content cannot end with trailing whitespace"
        return Problem(f"messages: {said}", "order")
    if NO_PREFILL.search(body["model"]):
        return Problem(
            "This model does not support assistant message prefill. The conversation must end with"
            " a user message.",
            "values",
        )
    return None


def _tools(body: JSON) -> Problem | None:
    names = []
    for at, tool in enumerate(body.get("tools") or []):
        if not isinstance(tool, dict):
            return Problem(f"tools.{at}: Input should be a valid dictionary", "shape")
        if str(tool.get("type") or "custom") != "custom":
            names.append(str(tool.get("name")))
            continue  # a server tool
        name, schema = tool.get("name"), tool.get("input_schema")
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            said = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
            return Problem(f"tools.{at}.custom.name: {said}", "values")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            said = "Input should be 'object'"
            return Problem(f"tools.{at}.custom.input_schema.type: {said}", "shape")
        unknown = set(tool) - TOOL_FIELDS
        if unknown:
            said = "Extra inputs are not permitted"
            return Problem(f"tools.{at}.custom.{min(unknown)}: {said}", "shape")
        names.append(name)
    if len(set(names)) < len(names):
        return Problem("tools: Tool names must be unique.", "values")
    if names and all(tool.get("defer_loading") for tool in body["tools"]):
        return Problem("tools: At least one tool must have defer_loading=false.", "values")
    choice = body.get("tool_choice")
    if choice is None:
        return None
    if choice.get("type") not in ("auto", "any", "tool", "none"):
        return Problem("tool_choice: Input tag is not one of auto, any, tool, none", "shape")
    if not names:
        return Problem("tool_choice: may only be specified while providing tools", "order")
    if choice["type"] == "tool" and choice.get("name") not in names:
        return Problem(f"Tool '{choice.get('name')}' not found in provided tools", "order")
    if choice["type"] == "none" and "disable_parallel_tool_use" in choice:
        said = "Extra inputs are not permitted"
        return Problem(f"tool_choice.none.disable_parallel_tool_use: {said}", "shape")
    if choice["type"] in ("any", "tool") and NO_FORCED_TOOL.search(body["model"]):
        return Problem("tool_choice: this model does not support forced tool use", "values")
    return None


def _values(body: JSON) -> Problem | None:
    model = body["model"]
    most = next((limit for name, limit in MOST_TOKENS if name.search(model)), UNLIMITED)
    if body["max_tokens"] > most:
        return Problem(
            f"max_tokens: {body['max_tokens']} > {most}, which is the maximum allowed number of"
            f" output tokens for {model}",
            "values",
        )
    for name in ("temperature", "top_p", "top_k"):
        if body.get(name) is not None and NEWEST.search(model):
            return Problem(f"`{name}` is deprecated for this model.", "order")
    both = body.get("temperature") is not None and body.get("top_p") is not None
    if both and ONE_SAMPLING.search(model):
        return Problem(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only"
            " one.",
            "order",
        )
    user = (body.get("metadata") or {}).get("user_id")
    if isinstance(user, str) and "@" in user:
        return Problem("metadata.user_id: appears to contain an email address", "order")
    wanted = (body.get("output_config") or {}).get("format")
    if isinstance(wanted, dict) and (path := _open_object(wanted.get("schema"), "schema")):
        return Problem(
            f"output_config.format.{path}: For 'object' type, 'additionalProperties' must be"
            " explicitly set to false",
            "values",
        )
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in ("low", "medium", "high", "xhigh", "max"):
        return Problem("output_config.effort: Input should be 'low', 'medium', 'high'", "shape")
    if effort == "xhigh" and re.search(r"claude-(opus|sonnet)-4-[56](?!\d)", model):
        return Problem(
            "This model does not support effort level 'xhigh'. Supported levels: high, low, max,"
            " medium.",
            "order",
        )
    return None


def _open_object(schema: Any, path: str, depth: int = 0) -> str:
    """Where an object is that allows more properties than it names, "" for nowhere."""
    if isinstance(schema, dict) and depth < 50:
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            return path
        for name, inner in schema.items():
            if found := _open_object(inner, f"{path}.{name}", depth + 1):
                return found
    return ""


def _thinking(body: JSON) -> Problem | None:
    thinking = body.get("thinking") or {"type": "disabled"}
    match thinking.get("type"):
        case "disabled":
            return None
        case "adaptive":
            if BUDGET_ONLY.search(body["model"]):
                return Problem("adaptive thinking is not supported on this model", "order")
        case "enabled":
            budget = thinking.get("budget_tokens")
            if NEWEST.search(body["model"]):
                return Problem('"thinking.type.enabled" is not supported for this model', "values")
            if not isinstance(budget, int) or budget < 1024:
                said = "Input should be greater than or equal to 1024"
                return Problem(f"thinking.enabled.budget_tokens: {said}", "values")
            if budget >= body["max_tokens"]:
                return Problem(
                    "`max_tokens` must be greater than `thinking.budget_tokens`.", "values"
                )
            if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
                return Problem(
                    "Thinking may not be enabled when tool_choice forces tool use.", "values"
                )
            if problem := _begins_with_thought(body["messages"]):
                return problem
        case other:
            return Problem(f"thinking: Input tag '{other}' is not expected", "values")
    if body.get("temperature") not in (None, 1):
        return Problem("`temperature` may only be set to 1 when thinking is enabled.", "order")
    if body.get("top_k") is not None:
        return Problem("`top_k` must be unset when thinking is enabled.", "order")
    if not 0.95 <= (body.get("top_p") or 1) <= 1:
        return Problem("`top_p` must be between 0.95 and 1 when thinking is enabled.", "order")
    if body["messages"][-1]["role"] == "assistant":
        return Problem("Prefilling assistant messages is not supported with thinking.", "values")
    return None


def _begins_with_thought(messages: list[JSON]) -> Problem | None:
    """In a round of tool calls the turn must begin with its thinking, sent back unchanged."""
    turn: list[tuple[int, JSON]] = []
    for at, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "assistant":
            turn.append((at, message))
        elif message["role"] == "system":
            continue
        elif isinstance(content, str) or any(block["type"] != "tool_result" for block in content):
            turn = []
    if not turn or isinstance(turn[0][1]["content"], str):
        return None
    at, first = turn[0]
    if first["content"] and first["content"][0]["type"] in ("thinking", "redacted_thinking"):
        return None
    return Problem(
        f"messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found"
        f" `{first['content'][0]['type']}`. When `thinking` is enabled, a final `assistant` message"
        " must start with a thinking block (preceding the lastmost set of `tool_use` and"
        " `tool_result` blocks).",
        "values" if "thinking" in str(first) else "order",
    )


def _signatures(body: JSON) -> Problem | None:
    for at, message in enumerate(body["messages"]):
        if isinstance(message["content"], str):
            continue
        for index, block in enumerate(message["content"]):
            where = f"messages.{at}.content.{index}"
            if block["type"] == "thinking" and block["signature"] != signature_of(
                block["thinking"]
            ):
                said = "Invalid `signature` in `thinking` block"
                return Problem(f"{where}: {said}", "order")
            if block["type"] == "redacted_thinking" and not str(block.get("data")).startswith(
                redacted("")[:16]
            ):
                said = "Invalid `data` in `redacted_thinking` block"
                return Problem(f"{where}: {said}", "order")
    return None
