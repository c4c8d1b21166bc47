"""Responses bodies: the little that routing needs, and the whole as the neutral request.

A member, an item or a tool that nobody knows is left out and named, never refused: Codex sends some
that no SDK lists. What promises state or a run at OpenAI is refused. Protocol sheet:
front-responses, 3.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from app.fronts.openai_responses.compaction import QUESTION
from app.fronts.openai_responses.items import Talk, read_items
from app.fronts.openai_responses.schema import NONE, Body, Format, Text
from app.fronts.openai_responses.tools import Tools, placed, read_choice, read_tools
from app.wire.asked import UNREADABLE, Asked, as_bad_request, read_mended
from app.wire.chat import ChatRequest, Message, Tool, read_members
from app.wire.errors import GatewayError, bad_request
from app.wire.front import Incoming
from app.wire.kept import item_place
from app.wire.provider import Wire

WIRE: Wire = "openai-responses"
RESPONSES = "/c/v1/responses"
COMPACT = "/compact"
COUNT = "/input_tokens"
COMPACT_OBJECT = "response.compaction"
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,80}")
_MOST_NAMES = 32
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_WORDS = {
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "tools.function.strict": "tools.strict",
    "logprobs": "include",
    "thinking_blocks": "input[].reasoning",
}
_LIVES_AT_OPENAI = ("conversation", "prompt", "moderation", "background")
_KNOWN_INCLUDES = ("reasoning.encrypted_content", "message.output_text.logprobs")
_UNNAMED = frozenset(("disabled", "auto", "default", "standard", "all_turns"))


def word(member: str) -> str:
    """What a caller calls a member of the neutral request."""
    return _WORDS.get(member, member)


class ResponsesOptions(Struct):
    """What this front needs of the request besides. `tools` is set when the body is read."""

    previous: str | None = None
    references: tuple[str, ...] = ()
    stores: bool = True
    compacts: bool = False  # the answer is a summary of the conversation
    path: str = ""  # behind /responses
    is_codex: bool = False
    tools: Tools | None = None
    input: list[Raw] = []  # this turn's own items
    live: Any = None  # the renderer whose stream has begun


class _Reference(Struct):
    type: str | None = None
    id: str | None = None


_references = msgspec.json.Decoder(list[_Reference])


def glance_for(families: Sequence[str]) -> Callable[[Incoming], Asked]:
    """The `glance` of this front. `families` name the gateway's own members of a body."""
    members: list[tuple[str, Any, Any]] = [
        ("provider", str | UnsetType | None, UNSET),
        ("model", str | None, None),
        ("stream", bool | None, None),
        ("store", bool | None, None),
        ("previous_response_id", str | None, None),
        ("input", Raw, NONE),
    ]
    members += [(name, Raw | UnsetType, UNSET) for name in families]
    decode = msgspec.json.Decoder(msgspec.defstruct("ResponsesGlance", members)).decode

    def glance(incoming: Incoming) -> Asked:
        """Raises GatewayError 400 for what is not a JSON object with members of the right type."""
        is_codex = (incoming.headers.get("originator") or "").startswith("codex")
        path = incoming.path.removeprefix(RESPONSES)
        compacts = path == COMPACT

        def read(body: bytes) -> Asked:
            found: Any = decode(body)
            own = {name: raw for name in families if (raw := getattr(found, name)) is not UNSET}
            named = () if found.provider is UNSET else ("provider",)
            if not found.model:
                raise bad_request(
                    "Missing required parameter: 'model'.", "model", "missing_required_parameter"
                )
            return Asked(
                body=body,
                model=found.model,
                provider=found.provider or None if named else None,
                stream=found.stream is True and not path,
                members=own,
                own_names=(*own, *named),
                options=ResponsesOptions(
                    previous=found.previous_response_id or None,
                    references=_referred(bytes(found.input)),
                    stores=found.store is not False and not path,
                    compacts=compacts,
                    path=path,
                    is_codex=is_codex,
                ),
            )

        return read_mended(incoming.body, read)

    return glance


def _referred(items: bytes) -> tuple[str, ...]:
    """The ids that `item_reference` items name; most bodies have none."""
    if b'"item_reference"' not in items:
        return ()
    try:
        found = _references.decode(items)
    except UNREADABLE:
        return ()  # told when the body is read
    return tuple(item.id for item in found if item.type == "item_reference" and item.id)


_body = msgspec.json.Decoder(Body)
_KNOWN = frozenset(Body.__struct_fields__)


def read(asked: Asked) -> ChatRequest:
    """The neutral request. Raises GatewayError 400 naming the member that is wrong or missing."""
    try:
        body = _body.decode(asked.body)
        if not asked.body.isascii():
            asked.body.decode()  # schemas of tools stay raw: nobody has looked at them
    except UNREADABLE as error:
        raise as_bad_request(error, asked.body) from None
    _refuse_what_lives_at_openai(body)
    options: ResponsesOptions = asked.options
    options.input = _items(body.input)
    before = _chain(asked)
    if not options.input and not before:
        raise _no_input()
    talk = read_items(before, options.input, _references_in(asked))
    options.input = talk.input
    options.compacts = options.compacts or talk.compacts
    tools = _tools(body, talk, options)
    options.tools = tools
    messages = [Message("system", body.instructions)] if body.instructions else []
    messages += talk.messages
    if not messages:
        raise _no_input()
    if options.compacts:
        messages.append(Message("user", QUESTION))
    chat = ChatRequest(
        messages=messages,
        model=asked.model,
        stream=asked.stream,
        max_completion_tokens=_at_least_one(body.max_output_tokens),
        temperature=body.temperature,
        top_p=body.top_p,
        prompt_cache_key=body.prompt_cache_key,
        extras_wire=WIRE,
    )
    text = talk.text or body.text or Text()
    if not options.compacts:
        _say_tools(chat, body, tools)
        _say_format(chat, text.format)
    if text.verbosity is not None:
        chat.extras = {"verbosity": Raw(msgspec.json.encode(text.verbosity))}
    reasoning = talk.reasoning or body.reasoning
    chat.reasoning_effort = _effort(reasoning.effort if reasoning is not None else None)
    chat.thoughts = "off" if chat.reasoning_effort == "none" else "shown"
    if body.top_logprobs is not None or "message.output_text.logprobs" in (body.include or ()):
        chat.logprobs, chat.top_logprobs = True, body.top_logprobs
    chat.dropped = _dropped(asked, body, talk, tools)
    return chat


def _no_input() -> GatewayError:
    return bad_request(
        "Missing required parameter: 'input'.", "input", "missing_required_parameter"
    )


def _refuse_what_lives_at_openai(body: Body) -> None:
    for name in _LIVES_AT_OPENAI:
        if getattr(body, name) not in (None, False):
            raise bad_request(
                f"Unsupported parameter: '{name}' lives at OpenAI and works with its own models "
                "only; leave it out.",
                name,
                "unsupported_parameter",
            )


def _items(given: str | list[Raw] | None) -> list[Raw]:
    if isinstance(given, str):
        return [Raw(msgspec.json.encode({"role": "user", "content": given}))] if given else []
    return given or []


def _chain(asked: Asked) -> list[Raw]:
    """The items of the turns before this one, as they were kept."""
    previous = asked.options.previous
    if previous is None:
        return []
    if previous not in asked.kept:
        raise bad_request(
            f"Previous response with id '{previous[:128]}' not found.",
            "previous_response_id",
            "previous_response_not_found",
        )
    items: list[Raw] = []
    turn: str | None = previous
    turns = []
    while turn is not None and (kept := asked.kept.get(turn)) is not None:
        turns.append(kept)
        turn = kept.parent
    for kept in reversed(turns):
        items += [*kept.input, *kept.output]
    return items


def _references_in(asked: Asked) -> Mapping[str, Raw]:
    found = {}
    for id in asked.options.references:
        place = item_place(id)
        kept = asked.kept.get(place[0]) if place is not None else None
        if place is not None and kept is not None and place[1] < len(kept.output):
            found[id] = kept.output[place[1]]
    return found


def _at_least_one(said: int | None) -> int | None:
    if said is not None and said < 1:
        raise bad_request("max_output_tokens: must be at least 1.", "max_output_tokens")
    return said


def _effort(said: str | None) -> str | None:
    if said is not None and said not in _EFFORTS:
        at = "reasoning.effort"
        raise bad_request(f"{at}: must be one of {', '.join(_EFFORTS)}.", at)
    return said


def _tools(body: Body, talk: Talk, options: ResponsesOptions) -> Tools:
    if options.compacts:
        return Tools()
    return read_tools(placed(body.tools, "tools"), talk.added, talk.found)


def _say_tools(chat: ChatRequest, body: Body, tools: Tools) -> None:
    if body.tool_choice != "none":
        chat.server_tools = tools.server
    chat.tool_choice = read_choice(body.tool_choice, tools)
    if not tools.functions:
        return
    chat.tools = [Tool(function=function) for function in tools.functions.values()]
    chat.parallel_tool_calls = False if body.parallel_tool_calls is False else None
    if chat.tool_choice != "none":
        chat.insists["tools"] = "tools"


def _say_format(chat: ChatRequest, format: Format | None) -> None:
    if format is None or format.type == "text":
        return
    at = "text.format"
    wanted: dict[str, Any] = {"type": format.type}
    if format.type == "json_schema":
        if format.schema is None:
            raise bad_request(f"{at}.schema: a json_schema needs its schema.", f"{at}.schema")
        holder = {
            "name": format.name or "output",
            "description": format.description,
            "schema": format.schema,
            "strict": format.strict,
        }
        wanted["json_schema"] = {name: v for name, v in holder.items() if v is not None}
    elif format.type != "json_object":
        raise bad_request(f"{at}.type: must be text, json_object or json_schema.", f"{at}.type")
    chat.response_format = {name: Raw(msgspec.json.encode(v)) for name, v in wanted.items()}
    chat.insists["response_format"] = at


def _dropped(asked: Asked, body: Body, talk: Talk, tools: Tools) -> list[str]:
    """The names of what was left out, fit for a header."""
    names = [*talk.dropped, *tools.dropped]
    reasoning = body.reasoning
    for name, value in (
        ("reasoning.mode", reasoning.mode if reasoning else None),
        ("reasoning.context", reasoning.context if reasoning else None),
        ("truncation", body.truncation if body.truncation != "auto" else "cuts"),
        ("service_tier", body.service_tier),
    ):
        if value is not None and value not in _UNNAMED:
            names.append(name)
    names += [f"include.{name}" for name in body.include or () if name not in _KNOWN_INCLUDES]
    names += [
        name
        for name, raw in read_members(asked.body).items()
        if name not in _KNOWN and name not in asked.own_names and bytes(raw) != b"null"
    ]
    return [name for name in dict.fromkeys(names) if _NAME.fullmatch(name)][:_MOST_NAMES]
