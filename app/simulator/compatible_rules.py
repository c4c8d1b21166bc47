"""What a simulated host of OpenAI's chat wire refuses in a request: its row's members and rules.

Source: protocol sheet openai-compatible, section 2.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from msgspec import Struct

from app.simulator.compatible_hosts import JSON, Host, Refused
from app.simulator.openai_chat import text_of

_NINE = re.compile(r"[A-Za-z0-9]{9}")


class Finding(Struct, frozen=True):
    """A refusal, what its words are about, and the member it is about."""

    said: Refused
    about: str = ""
    param: str | None = None


def first_refusal(host: Host, body: JSON) -> Finding | None:
    """The first thing this host would not have in the request; the body is an object whose
    `messages` are a list of objects."""
    for name in body:
        if name in host.refuses or (host.only is not None and name not in host.only):
            return Finding(host.refusal, name, name)
    for at, message in enumerate(body["messages"]):
        if message.get("role") == "developer" and host.no_developer:
            said = host.no_developer.replace("%d", str(at))
            status = 422 if host.shape == "mistral" else 400
            return Finding(Refused(status, said, "invalid_request_error"), param="messages")
        for name in message:
            if name in host.history_refuses:
                return Finding(host.refusal, name, f"messages.{at}.{name}")
    shape = body.get("response_format") or {}
    if host.only_json_object and shape.get("type") == "json_schema":
        return _bad("This response_format type is unavailable now", "response_format")
    forced = body.get("tool_choice")
    if forced in ("required", "any") and forced != host.force_tool:
        return _bad(f"Input should be 'auto', 'none' or '{host.force_tool}'", "tool_choice")
    for rule in host.rules:
        if wrong := next(RULES[rule](body), None):
            return _bad(wrong)
    return None


def thinks(body: JSON) -> bool:
    """Whether the simulated model thinks: its name says so, or the request asks for it."""
    asked = body.get("thinking")
    if isinstance(asked, dict):
        return asked.get("type") == "enabled"
    if (asked := body.get("enable_thinking")) is not None:
        return asked is True
    if body.get("reasoning") or body.get("reasoning_effort") not in (None, "none"):
        return True
    return bool(re.search(r"think|reason|magistral|-r1\b", str(body.get("model")).lower()))


def _bad(message: str, param: str | None = None) -> Finding:
    return Finding(Refused(400, message, "invalid_request_error"), param=param)


def _function_tools_only(body: JSON) -> Iterator[str]:
    for at, tool in enumerate(body.get("tools") or []):
        if tool.get("type") != "function":
            yield f"tools[{at}].type: unknown variant `{tool.get('type')}`, expected `function`"


def _thinking_comes_back(body: JSON) -> Iterator[str]:
    """Of the running tool loop: the turns since the user spoke last."""
    if not thinks(body):
        return
    for message in reversed(body["messages"]):
        if message.get("role") == "user":
            return
        if message.get("tool_calls") and not message.get("reasoning_content"):
            yield "The `reasoning_content` in the thinking mode must be passed back to the API."


def _json_is_named(body: JSON) -> Iterator[str]:
    wants = (body.get("response_format") or {}).get("type") == "json_object"
    said = " ".join(text_of(message.get("content")) for message in body["messages"])
    if wants and "json" not in said.lower():
        yield "Prompt must contain the word 'json' in some form to use 'response_format'."


def _one_answer(body: JSON) -> Iterator[str]:
    if (body.get("n") or 1) > 1:
        yield "'n' : number must be at most 1"


def _nine_signs_in_tool_ids(body: JSON) -> Iterator[str]:
    for message in body["messages"]:
        ids = [call.get("id") for call in message.get("tool_calls") or []]
        for each in [*ids, message.get("tool_call_id")]:
            if each is not None and not _NINE.fullmatch(each):
                yield f"Tool call id was {each} but must be a-z, A-Z, 0-9, with a length of 9."


def _no_user_after_tool(body: JSON) -> Iterator[str]:
    roles = [message.get("role") for message in body["messages"]]
    if ("tool", "user") in pairwise(roles):
        yield "Unexpected role 'user' after role 'tool'"


def _user_or_tool_is_last(body: JSON) -> Iterator[str]:
    last = body["messages"][-1]
    if last.get("role") == "assistant" and not last.get("prefix"):
        yield "Expected last role User or Tool (or Assistant with prefix True) but got assistant"


def _some_tools(body: JSON) -> Iterator[str]:
    if body.get("tools") == []:
        yield "Tools should have at least 1 item"


def _no_penalties_when_thinking(body: JSON) -> Iterator[str]:
    for name in ("stop", "presence_penalty", "frequency_penalty"):
        if thinks(body) and body.get(name):
            yield f"Model {body['model']} does not support parameter {name}."


def _no_forced_tool_when_thinking(body: JSON) -> Iterator[str]:
    choice = body.get("tool_choice")
    if thinks(body) and (choice == "required" or isinstance(choice, dict)):
        yield "tool_choice 'specified' is incompatible with thinking enabled"


def _thinking_is_streamed(body: JSON) -> Iterator[str]:
    if thinks(body) and not body.get("stream"):
        yield "parameter.enable_thinking must be set to false for non-streaming calls"


def _turns_alternate(body: JSON) -> Iterator[str]:
    roles = [each.get("role") for each in body["messages"] if each.get("role") != "system"]
    if any(a == b for a, b in pairwise(roles)):
        yield (
            "After the (optional) system message(s), user or tool message(s) should alternate with"
            " assistant message(s)."
        )


def _no_remote_images(body: JSON) -> Iterator[str]:
    for message in body["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            url = (part.get("image_url") or {}) if isinstance(part, dict) else {}
            url = url.get("url", "") if isinstance(url, dict) else url
            if url and not url.startswith("data:"):
                yield "invalid image input"


def _auto_tools_are_switched_on(body: JSON) -> Iterator[str]:
    """A vLLM that was started without its tool parser, where the model's name says so."""
    is_auto = body.get("tools") and body.get("tool_choice") in (None, "auto")
    if is_auto and "no-tool-parser" in str(body.get("model")):
        yield (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )


RULES: dict[str, Callable[[JSON], Iterator[str]]] = {
    "function tools only": _function_tools_only,
    "thinking comes back": _thinking_comes_back,
    "json is named": _json_is_named,
    "one answer": _one_answer,
    "nine signs in tool ids": _nine_signs_in_tool_ids,
    "no user after tool": _no_user_after_tool,
    "user or tool is last": _user_or_tool_is_last,
    "some tools": _some_tools,
    "no penalties when thinking": _no_penalties_when_thinking,
    "no forced tool when thinking": _no_forced_tool_when_thinking,
    "thinking is streamed": _thinking_is_streamed,
    "turns alternate": _turns_alternate,
    "no remote images": _no_remote_images,
    "auto tools are switched on": _auto_tools_are_switched_on,
}
