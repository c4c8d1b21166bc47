"""Messages bodies: the little that routing needs, and the whole as the neutral request.

What another upstream cannot be told is refused where the answer would be another one; else it is
left out and named. `cache_control`, `metadata` and betas are never named: they only save work at
Anthropic, and every request has them. Protocol sheet: front-messages.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app.fronts.anthropic.messages import Talk, read_messages
from app.fronts.anthropic.schema import Body, Format, OutputConfig, Thinking
from app.fronts.anthropic.tools import Tools, read_choice, read_tools
from app.wire.asked import UNREADABLE, Asked, as_bad_request, read_mended
from app.wire.chat import ChatRequest, Tool, plain, read_members
from app.wire.errors import bad_request
from app.wire.front import Incoming
from app.wire.provider import Wire
from app.wire.strict_schema import is_strict

WIRE: Wire = "anthropic"
_SESSION = "x-claude-code-session-id"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_NAMES = 32
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_WORDS = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "reasoning_effort": "output_config.effort",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "response_format": "output_config.format",
    "tools.function.strict": "tools.strict",
    "thinking_blocks": "messages.content.thinking",
}


def word(member: str) -> str:
    """What a caller calls a member of the neutral request."""
    return _WORDS.get(member, member)


def glance_for(families: Sequence[str]) -> Callable[[Incoming], Asked]:
    """The `glance` of this front. `families` name the gateway's own members of a body."""
    members: list[tuple[str, Any, Any]] = [
        ("provider", str | UnsetType | None, UNSET),
        ("model", str | None, None),
        ("stream", bool | None, None),
        ("max_tokens", int | None, None),
    ]
    members += [(name, Raw | UnsetType, UNSET) for name in families]
    decode = msgspec.json.Decoder(msgspec.defstruct("MessagesGlance", members)).decode

    def glance(incoming: Incoming) -> Asked:
        """Raises GatewayError 400 for what is not a JSON object with members of the right type."""
        session = incoming.headers.get(_SESSION) or ""
        session_id = session if _PLAIN_NAME.fullmatch(session) else ""

        def read(body: bytes) -> Asked:
            found: Any = decode(body)
            own = {name: raw for name in families if (raw := getattr(found, name)) is not UNSET}
            named = () if found.provider is UNSET else ("provider",)
            if not found.model:
                raise bad_request("model: Field required.", "model")
            return Asked(
                body=body,
                model=found.model,
                provider=found.provider or None if named else None,
                stream=found.stream is True,
                members=own,
                own_names=(*own, *named),
                query=incoming.query,
                session_id=session_id,
                wants_nothing=found.max_tokens == 0,
            )

        return read_mended(incoming.body, read)

    return glance


_body = msgspec.json.Decoder(Body)
_KNOWN = frozenset(Body.__struct_fields__)


def read(asked: Asked) -> ChatRequest:
    """The neutral request. Raises GatewayError 400 naming the member that is wrong or missing."""
    try:
        body = _body.decode(asked.body)
        if not asked.body.isascii():
            asked.body.decode()  # schemas and inputs of tools stay raw: nobody has looked at them
    except UNREADABLE as error:
        raise as_bad_request(error, asked.body) from None
    _refuse_what_lives_at_anthropic(body)
    talk = read_messages(body.system, body.messages)
    if not any(message.role != "system" for message in talk.messages):
        raise bad_request("messages: at least one message with content is required.", "messages")
    tools = read_tools([*(body.tools or ()), *talk.added], talk.found, talk.removed)
    chat = ChatRequest(
        messages=talk.messages,
        model=asked.model,
        stream=asked.stream,
        max_completion_tokens=_max_tokens(body.max_tokens),
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=[stop for stop in body.stop_sequences or () if stop.strip()] or None,
        cuts_stops=True,
        prompt_cache_key=asked.session_id or None,
        service_tier="default" if body.service_tier == "standard_only" else None,
        extras_wire=WIRE,
    )
    _say_tools(chat, body, tools)
    _say_format(chat, body)
    _say_thinking(chat, body.thinking, talk.effort or (body.output_config or _NOTHING).effort)
    chat.dropped = _dropped(asked, body, talk, tools)
    return chat


_NOTHING = OutputConfig()


def _refuse_what_lives_at_anthropic(body: Body) -> None:
    for name in ("container", "mcp_servers", "thread", "compaction"):
        if getattr(body, name) not in (None, [], {}):
            raise bad_request(
                f"{name}: this lives at Anthropic and works with Claude's own API only; leave it "
                "out, or ask for a claude model.",
                name,
            )
    if body.inference_geo not in (None, "global"):
        raise bad_request(
            "inference_geo: where this model's provider computes cannot be promised; leave it out.",
            "inference_geo",
        )


def _max_tokens(said: int | None) -> int | None:
    if said is not None and said < 0:
        raise bad_request("max_tokens: must not be negative.", "max_tokens")
    return said or None  # 0 is answered without asking anybody


def _say_tools(chat: ChatRequest, body: Body, tools: Tools) -> None:
    if body.tool_choice is None or body.tool_choice.type != "none":
        chat.server_tools = tools.server
    chat.tool_choice = read_choice(body.tool_choice, tools)
    if not tools.functions:
        return
    chat.tools = [Tool(function=function) for function in tools.functions]
    if body.tool_choice is not None and body.tool_choice.disable_parallel_tool_use:
        chat.parallel_tool_calls = False
    if chat.tool_choice != "none":
        chat.insists["tools"] = "tools"


def _say_format(chat: ChatRequest, body: Body) -> None:
    format: Format | None = (body.output_config or _NOTHING).format or body.output_format
    if format is None:
        return
    at = "output_config.format"
    if format.type != "json_schema" or format.schema is None:
        raise bad_request(f"{at}: must be a json_schema with its schema.", at)
    holder = {"name": "output", "schema": format.schema, "strict": is_strict(plain(format.schema))}
    wanted = {"type": "json_schema", "json_schema": holder}
    chat.response_format = {name: Raw(msgspec.json.encode(v)) for name, v in wanted.items()}
    chat.insists["response_format"] = at


def _say_thinking(chat: ChatRequest, thinking: Thinking | None, effort: str | None) -> None:
    if effort is not None and effort not in _EFFORTS:
        raise bad_request(
            f"output_config.effort: must be one of {', '.join(_EFFORTS)}.", "output_config.effort"
        )
    chat.thoughts = "off"
    chat.reasoning_effort = effort
    if thinking is None:
        return
    match thinking.type:
        case "disabled":
            chat.reasoning_effort = "none"
            return
        case "adaptive" | "between_tools":
            chat.thinking_budget = -1 if effort is None else None
        case "enabled":
            budget = thinking.budget_tokens
            if budget is None or budget < 1:
                at = "thinking.budget_tokens"
                raise bad_request(f"{at}: must be at least 1024.", at)
            chat.thinking_budget = budget
            steps = ((4096, "low"), (16384, "medium"))
            chat.reasoning_effort = next((word for most, word in steps if budget < most), "high")
        case _:
            raise bad_request(
                "thinking.type: must be disabled, adaptive, between_tools or enabled.",
                "thinking.type",
            )
    chat.thoughts = "omitted" if thinking.display == "omitted" else "shown"


def _dropped(asked: Asked, body: Body, talk: Talk, tools: Tools) -> list[str]:
    """The names of what was left out, fit for a header."""
    names = [*talk.dropped, *tools.dropped]
    if (body.output_config or _NOTHING).task_budget is not None:
        names.append("output_config.task_budget")
    names += [
        name
        for name, raw in read_members(asked.body).items()
        if name not in _KNOWN and name not in asked.own_names and bytes(raw) != b"null"
    ]
    return [name for name in dict.fromkeys(names) if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMES]
