"""What is done with each OpenAI parameter for Claude: the decision table and its checks.

What Claude cannot say is dropped and named in `call.dropped` when that is harmless, and refused
with 400 where dropping it would change the meaning. docs/parameters.md prints the table.
"""

import re
from collections.abc import Iterator

import msgspec

from app.wire.chat import ChatRequest
from app.wire.dropped import dropped_in_messages, says_nothing
from app.wire.errors import bad_request
from app.wire.provider import Call

PASSED, TRANSLATED, DROPPED, REFUSED = "passed", "translated", "dropped", "400"

# parameter -> (what is done, how). docs/parameters.md prints this; a test compares.
PARAMETERS: dict[str, tuple[str, str]] = {
    "model": (PASSED, "unchanged"),
    "messages": (TRANSLATED, "`system` and alternating turns"),
    "stream": (PASSED, ""),
    "stream_options": (
        TRANSLATED,
        "the gateway makes the usage chunk; `include_obfuscation` dropped",
    ),
    "max_tokens": (TRANSLATED, "`claude.default_max_tokens` when absent; 400 below 1"),
    "max_completion_tokens": (TRANSLATED, "`max_tokens`; takes precedence over `max_tokens`"),
    "temperature": (
        TRANSLATED,
        "above 1 becomes 1, 400 outside 0..2; dropped where model, version or thinking refuse it",
    ),
    "top_p": (TRANSLATED, "dropped if `temperature` is set; 400 outside 0..1"),
    "top_k": (PASSED, "dropped where model, version or thinking refuse it"),
    "stop": (TRANSLATED, "`stop_sequences`; whitespace-only entries dropped"),
    "tools": (
        TRANSLATED,
        "`tools`; a `strict` schema is adapted to Anthropic's rules, `strict` dropped "
        "where that would lose parts of it; 400 for types other than `function`",
    ),
    "tool_choice": (TRANSLATED, "`tool_choice`; `allowed_tools` filters `tools`"),
    "parallel_tool_calls": (TRANSLATED, "`tool_choice.disable_parallel_tool_use`"),
    "functions": (TRANSLATED, "as `tools`; the response then uses `function_call`"),
    "function_call": (TRANSLATED, "as `tool_choice`"),
    "response_format": (
        TRANSLATED,
        "`json_schema`: `output_config.format`, with the schema adapted to Anthropic's "
        "rules; a system instruction where strict output cannot express it, a forced "
        "tool on older models; `json_object`: a system instruction",
    ),
    "reasoning_effort": (
        TRANSLATED,
        "`thinking` and `output_config.effort`; dropped where thinking is impossible",
    ),
    "thinking": (
        PASSED,
        "Anthropic's own object; takes precedence over `reasoning_effort`; dropped where "
        "the thinking block of this round of tool calls is missing",
    ),
    "cache_control": (PASSED, "Anthropic's cache mark, here and on messages, parts and tools"),
    "user": (
        TRANSLATED,
        "`metadata.user_id`; dropped when it looks like an e-mail address or a phone number",
    ),
    "safety_identifier": (TRANSLATED, "as `user`; takes precedence over it"),
    "n": (REFUSED, "1 or absent only"),
    "modalities": (REFUSED, "`text` only"),
    "audio": (REFUSED, "Claude has no audio output"),
    "frequency_penalty": (DROPPED, ""),
    "logit_bias": (DROPPED, ""),
    "logprobs": (DROPPED, "`choices[].logprobs` stays null"),
    "metadata": (DROPPED, "Claude's `metadata` has another meaning"),
    "moderation": (DROPPED, ""),
    "prediction": (DROPPED, ""),
    "presence_penalty": (DROPPED, ""),
    "prompt_cache_key": (DROPPED, ""),
    "prompt_cache_retention": (DROPPED, ""),
    "seed": (DROPPED, ""),
    "service_tier": (DROPPED, ""),
    "store": (DROPPED, ""),
    "top_logprobs": (DROPPED, ""),
    "verbosity": (DROPPED, ""),
    "web_search_options": (DROPPED, ""),
}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_NAMES = 32


def drop(call: Call, name: str) -> None:
    """Names a parameter as dropped, once."""
    if name not in call.dropped:  # the same call is translated again when another key is tried
        call.dropped.append(name)


def refuse_what_changes_the_meaning(chat: ChatRequest) -> None:
    """Raises GatewayError 400 for parameters without which the answer would be another one."""
    if chat.n is not None and chat.n != 1:
        raise bad_request("Claude gives one choice per request; leave out n or send 1.", param="n")
    if chat.modalities and any(modality != "text" for modality in chat.modalities):
        raise bad_request("Claude answers in text only.", param="modalities")
    if chat.temperature is not None and not 0 <= chat.temperature <= 2:
        raise bad_request("temperature must lie between 0 and 2.", param="temperature")
    if chat.top_p is not None and not 0 <= chat.top_p <= 1:
        raise bad_request("top_p must lie between 0 and 1.", param="top_p")


def name_what_is_dropped(call: Call) -> None:
    """Names every parameter of the body that the decision table drops."""
    options = call.chat.stream_options
    if options is not None and options.include_obfuscation:
        drop(call, "stream_options.include_obfuscation")
    for name in dropped_in_messages(call.chat):
        drop(call, name)
    for name, said in _said(call.chat):
        verdict = PARAMETERS.get(name, (DROPPED, ""))[0]
        if name == "audio":
            raise bad_request("Claude answers in text only.", param="audio")
        # The names go into a response header, so names of unusual characters are left out.
        if (
            verdict == DROPPED
            and not says_nothing(name, said)
            and _PLAIN_NAME.fullmatch(name)
            and len(call.dropped) < _MOST_NAMES
        ):
            drop(call, name)


# Of what the neutral request knows, that which Claude cannot say.
_DROPPED_NAMES = tuple(
    name
    for name, (verdict, _) in PARAMETERS.items()
    if verdict == DROPPED and name in ChatRequest.__struct_fields__
)


def _said(chat: ChatRequest) -> Iterator[tuple[str, bytes]]:
    """The members of the request that may have to be dropped, each as JSON."""
    for name in _DROPPED_NAMES:
        value = getattr(chat, name)
        if value is not None:
            yield name, msgspec.json.encode(value)
    for name, raw in chat.extras.items():
        if bytes(raw) != b"null":
            yield name, bytes(raw)
