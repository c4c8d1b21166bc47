"""Translates an OpenAI chat request to an Anthropic Messages request.

Pure: the same call gives the same bytes. The parts are in their own files: messages in
conversation.py, tools in tools.py, what is dropped or refused in parameters.py.
"""

import re
from typing import Any

import msgspec
from msgspec import structs

from app.wire.chat import ChatRequest, plain
from app.wire.errors import bad_request
from app.wire.provider import Call
from providers.claude.conversation import Conversation
from providers.claude.generations import LIMITS, Abilities, abilities_for
from providers.claude.parameters import drop, name_what_is_dropped, refuse_what_changes_the_meaning
from providers.claude.schema import (
    Block,
    MessageParam,
    MessagesRequest,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolDefinition,
    ToolResultBlock,
    ToolUseBlock,
    UserMetadata,
)
from providers.claude.strict_schema import strict_schema
from providers.claude.tools import tool_names, tools_and_choice, wanted_schema, with_json_tool

_JSON_OBJECT = "Answer with one single JSON object and nothing else: no prose, no code fence."
_JSON_SCHEMA = (
    "Answer with one single JSON value and nothing else: no prose, no code fence. It must be valid "
    "against this JSON Schema:\n"
)
_BUDGETS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max"}
_MIN_BUDGET = 1024


def to_messages_request(call: Call, *, strict: bool = True) -> MessagesRequest:
    """The body for this call. Raises GatewayError 400; names what it drops in `call.dropped`.

    `strict` False asks for JSON in words and for loose tools, as Claude refused the strict form.
    """
    chat: ChatRequest = call.chat
    model = call.model
    if not model:
        raise bad_request("Name a model, for instance claude-sonnet-4-5.", param="model")
    abilities = abilities_for(call)
    refuse_what_changes_the_meaning(chat)
    name_what_is_dropped(call)

    names = tool_names(chat)
    conversation = Conversation(call, names)
    for at, message in enumerate(chat.messages):
        conversation.add(message, f"messages[{at}]")
    turns, prefilled = conversation.end()

    said = abilities if strict else structs.replace(abilities, structured=False)
    tools, choice = tools_and_choice(chat, said, call)
    for tool in tools:
        tool.name = names.sent(tool.name)
    if choice is not None and choice.name is not None:
        choice.name = names.sent(choice.name)
    output_config: dict[str, Any] = {}
    system = conversation.system
    schema = wanted_schema(chat)
    if schema is not None:
        if not abilities.structured:
            tools, choice = with_json_tool(chat, schema, tools, choice)
        elif strict and (form := strict_schema(schema)) is not None:
            output_config["format"] = {"type": "json_schema", "schema": form.schema}
        else:
            if plain(chat.response_format or {})["json_schema"].get("strict"):
                drop(call, "response_format.json_schema.strict")
            system = [*system, TextBlock(_JSON_SCHEMA + msgspec.json.encode(schema).decode())]
    elif chat.response_format and bytes(chat.response_format.get("type", b"")) == b'"json_object"':
        system = [*system, TextBlock(_JSON_OBJECT)]
    if conversation.tool_names and not tools:
        # Claude wants the definitions of tools that the history has used; none may be called now.
        tools = [ToolDefinition(name, {"type": "object"}) for name in conversation.tool_names]
        choice = ToolChoice("none")

    forced = choice is not None and choice.type in ("any", "tool")
    thinking, effort = _thinking(chat, abilities, call, turns, forced=forced, prefilled=prefilled)
    if effort is not None:
        output_config["effort"] = effort
    max_tokens = _max_tokens(chat, abilities, call, thinking)
    sampling = _sampling(chat, abilities, call, thinking)
    return MessagesRequest(
        model=model,
        max_tokens=max_tokens,
        messages=turns,
        system=_system(system),
        stream=call.stream,
        stop_sequences=_stop_sequences(chat, call),
        tools=tools or None,
        tool_choice=choice if tools else None,
        thinking=thinking,
        output_config=output_config or None,
        metadata=_user(chat, call),
        cache_control=chat.cache_control,
        **sampling,
    )


def _system(blocks: list[TextBlock]) -> str | list[TextBlock] | None:
    if any(block.cache_control is not None for block in blocks):
        return blocks
    return "\n\n".join(block.text for block in blocks) or None


def _stop_sequences(chat: ChatRequest, call: Call) -> list[str] | None:
    said = [chat.stop] if isinstance(chat.stop, str) else chat.stop or []
    kept = [stop for stop in said if stop.strip()]
    if len(kept) < len(said):
        drop(call, "stop")  # Claude refuses whitespace-only ones
    return kept or None


_EMAIL_OR_PHONE = re.compile(r".*@.*|\+?[\d\s().-]{7,20}", re.DOTALL)


def _user(chat: ChatRequest, call: Call) -> UserMetadata | None:
    name = "safety_identifier" if chat.safety_identifier else "user"
    said = chat.safety_identifier or chat.user
    if not said:
        return None
    if _EMAIL_OR_PHONE.fullmatch(said) or len(said) > 256:
        drop(call, name)
        return None
    return UserMetadata(said)


def _sampling(
    chat: ChatRequest, abilities: Abilities, call: Call, thinking: dict[str, Any] | None
) -> dict[str, Any]:
    temperature, top_p, top_k = chat.temperature, chat.top_p, chat.top_k
    thinks = thinking is not None and thinking.get("type") != "disabled"
    kept: dict[str, Any] = {}
    if temperature is not None:
        if not abilities.sampling or (thinks and temperature != 1):
            drop(call, "temperature")
        else:
            kept["temperature"] = min(temperature, 1.0) if temperature > 1 else temperature
    if top_p is not None:
        # The 4.5 generation refuses both; a top_p of 1 beside a temperature says nothing.
        refused = not abilities.sampling or "temperature" in kept or (thinks and top_p < 0.95)
        if not refused:
            kept["top_p"] = top_p
        elif top_p != 1:
            drop(call, "top_p")
    if top_k is not None:
        if not abilities.sampling or thinks:
            drop(call, "top_k")
        else:
            kept["top_k"] = top_k
    return kept


# Of callers who say whether thoughts are to be shown. Unseen ones come as a signature alone.
_DISPLAYS = {"shown": {"display": "summarized"}, "omitted": {"display": "omitted"}}


def _thinking(
    chat: ChatRequest,
    abilities: Abilities,
    call: Call,
    turns: list[MessageParam],
    *,
    forced: bool,
    prefilled: bool,
) -> tuple[dict[str, Any] | None, str | None]:
    """`thinking` and the effort; neither where Claude would refuse the request with them."""
    effort = chat.reasoning_effort
    if chat.thinking is not None:
        if effort is not None:
            drop(call, "reasoning_effort")
        if chat.thinking.get("type") == "enabled" and (prefilled or _thinking_is_lost(turns)):
            drop(call, "thinking")
            return None, None
        return dict(chat.thinking), None
    if effort is None or effort == "none":
        return None, None
    if effort not in _BUDGETS:
        raise bad_request(
            f"reasoning_effort must be one of none, {', '.join(_BUDGETS)}.",
            param="reasoning_effort",
        )
    adaptive = abilities.thinking == "adaptive"
    if (
        abilities.thinking == "none"
        or prefilled  # an answer that is begun cannot be thought over
        or (not adaptive and (forced or _thinking_is_lost(turns)))
    ):
        drop(call, "reasoning_effort")
        return None, None
    if adaptive:
        display = _DISPLAYS.get(chat.thoughts or "", {})
        return {"type": "adaptive", **display}, _EFFORTS.get(effort, abilities.xhigh)
    display = _DISPLAYS["omitted"] if chat.thoughts == "omitted" else {}
    return {"type": "enabled", "budget_tokens": _BUDGETS[effort], **display}, None


def _thinking_is_lost(turns: list[MessageParam]) -> bool:
    """True inside a round of tool calls whose thinking block the caller did not send back.

    Claude then refuses to think with a budget. Earlier rounds, ended by words of the user, are
    free.
    """
    round_: list[Block] = []
    for turn in turns:
        if turn.role == "assistant":
            round_ += turn.content
        elif not all(isinstance(block, ToolResultBlock) for block in turn.content):
            round_ = []
    called = any(isinstance(block, ToolUseBlock) for block in round_)
    return called and not isinstance(round_[0], ThinkingBlock | RedactedThinkingBlock)


def _max_tokens(
    chat: ChatRequest, abilities: Abilities, call: Call, thinking: dict[str, Any] | None
) -> int:
    """The limit: raised above the budget of a reasoning_effort, which shrinks if it must."""
    said = chat.max_completion_tokens
    name = "max_completion_tokens"
    if said is None:
        said, name = chat.max_tokens, "max_tokens"
    if said is not None and said < 1:
        raise bad_request(f"{name} must be at least 1.", param=name)
    most = LIMITS.within(call.model, abilities.most_tokens)
    answer = said if said is not None else min(call.config.claude.default_max_tokens, most)
    answer = LIMITS.within(call.model, answer)
    budget = thinking.get("budget_tokens") if thinking else None
    if not isinstance(budget, int) or thinking is None:
        return answer
    if chat.thinking is not None:  # the caller's own numbers are theirs to fit together
        return answer if said is not None else min(answer + max(budget, 0), max(most, answer))
    if answer > budget and said is not None:
        return answer
    total = max(answer, min(answer + budget, most))
    room = total - answer
    thinking["budget_tokens"] = min(budget, room if room >= _MIN_BUDGET else total // 2)
    return total


def encode_request(request: MessagesRequest) -> bytes:
    """The JSON body. Raises GatewayError 400 for text that no UTF-8 can hold."""
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError:
        raise bad_request("The request holds a lone surrogate, which is not text.") from None
    except RecursionError:
        raise bad_request("The request is nested too deeply.") from None
