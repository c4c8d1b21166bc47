"""Claude through Anthropic's own API: POST /v1/messages, for OpenAI bodies and Anthropic bodies.

`PROVIDER` serves OpenAI bodies, `NATIVE` Anthropic bodies (POST /claude/api/openai); both answer
in OpenAI's shape. `FORWARDS` are the raw paths for Anthropic's own SDKs. Source: Anthropic Messages
API, versions 2023-06-01 and 2026-10-21 (which takes no sampling parameters).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, ToolCallRequest, read_members
from app.wire.errors import bad_response
from app.wire.model_in_body import with_model
from app.wire.provider import Call, Count, ForwardRule, Key, Native, Provider
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url
from providers.claude.decode import decoder
from providers.claude.errors import read_error
from providers.claude.generations import LIMITS, api_version
from providers.claude.native_body import read_native
from providers.claude.parameters import drop
from providers.claude.schema import ClaudeMember, MessagesRequest, ModelsAnswer, TokenCount
from providers.claude.translate import encode_request, to_messages_request

POOL = "claude.api_keys"
_DEFAULT_VERSION = "2023-06-01"
_OAUTH_BETA = "oauth-2025-04-20"
# Request headers of Anthropic's own clients that are passed on with their bodies.
_PASSED_FAMILIES = ("anthropic-", "x-claude-code-", "x-stainless-", "x-app", "user-agent")
_SAID_ANYWAY = ("anthropic-version", "anthropic-beta")
_SAMPLING = ("temperature", "top_p", "top_k")
# In the messages of refusals that are about strict output.
_STRICT = re.compile(r"output_config\.format|\bschema|\bgrammar\b|\bstrict\b", re.IGNORECASE)
# "messages.1.content.0: Invalid `signature` in `thinking` block"
_SIGNATURE = re.compile(
    r"invalid\W+(?:signature|data)\W+in\W+(?:redacted_)?thinking", re.IGNORECASE
)
_MODELS_PER_PAGE = 1000  # the most Anthropic gives


def request(call: Call) -> UpstreamRequest:
    """An OpenAI body as a Messages request."""
    return _post(call, encode_request(to_messages_request(call)))


def request_native(call: Call) -> UpstreamRequest:
    """An Anthropic body as it came, but for what only the gateway understands."""
    asked, body = call.asked, with_model(call.chat, call.asked.model, call.model)
    upstream = _post(call, body)
    if asked.query:
        upstream.url += f"?{asked.query}"
    upstream.headers += [
        (name.lower(), value)
        for name, value in call.headers.items()
        if name.lower().startswith(_PASSED_FAMILIES) and name.lower() not in _SAID_ANYWAY
    ]
    return upstream


_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking")


def count_request(call: Call) -> UpstreamRequest:
    """Asks for the tokens of an Anthropic body, or of a neutral request."""
    if isinstance(call.chat, bytes):
        upstream = request_native(call)
    else:
        members = read_members(encode_request(to_messages_request(call)))
        kept = {name: raw for name, raw in members.items() if name in _COUNTED}
        upstream = _post(call, msgspec.json.encode(kept))
    upstream.url = upstream.url.replace("/v1/messages", "/v1/messages/count_tokens", 1)
    return upstream


def read_count(reply: UpstreamReply) -> int | None:
    """The tokens of a prompt; None for another answer."""
    try:
        return msgspec.json.decode(reply.body, type=TokenCount).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def retry(call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
    """The same request without what Claude refused: sampling parameters, strict output, thoughts of
    earlier turns, which another account or a client's hand has made worthless, or tokens above the
    model's limit.

    Which models take which parameters changes with every generation, and which schemas are too
    complex only Claude knows; nothing has been told to the caller yet, so trying again beats
    keeping a list.
    """
    if reply.status != 400:
        return None
    message = read_error(reply).message
    if LIMITS.learn(call.model, message, call.chat.max_completion_tokens or call.chat.max_tokens):
        return request(call)
    if _SIGNATURE.search(message):
        return _without_thoughts(call)
    if not any(name in message for name in _SAMPLING):
        return _loosely(call) if _STRICT.search(message) else None
    body: MessagesRequest = to_messages_request(call)
    sent = [name for name in _SAMPLING if getattr(body, name) is not None]
    if not sent:
        return None
    for name in sent:
        setattr(body, name, None)
        drop(call, name)
    return _post(call, encode_request(body))


def _without_thoughts(call: Call) -> UpstreamRequest | None:
    """Without any earlier thought, and so without a new one: a round of tools has to have both."""
    chat: ChatRequest = call.chat
    held = [m for m in chat.messages if m.thinking_blocks or _has_thoughts(m.tool_calls)]
    if not held:
        return None
    messages = [
        replace(
            message,
            thinking_blocks=None,
            tool_calls=[replace(each, thinking_blocks=None) for each in message.tool_calls or ()]
            or None,
        )
        for message in chat.messages
    ]
    drop(call, "thinking_blocks")
    plain = replace(chat, messages=messages, thinking=None, reasoning_effort=None)
    return _post(call, encode_request(to_messages_request(replace(call, chat=plain))))


def _has_thoughts(calls: Iterable[ToolCallRequest] | None) -> bool:
    return any(each.thinking_blocks for each in calls or ())


def _loosely(call: Call) -> UpstreamRequest | None:
    strict = to_messages_request(call)
    asks_for_it = "format" in (strict.output_config or {})
    if not asks_for_it and not any(tool.strict for tool in strict.tools or ()):
        return None
    return _post(call, encode_request(to_messages_request(call, strict=False)))


def _post(call: Call, body: bytes) -> UpstreamRequest:
    claude = call.config.claude
    headers = [("content-type", "application/json")]
    headers += _credential(call.key.val, call.headers.get("anthropic-beta"))
    headers.append(("anthropic-version", api_version(call)))
    return UpstreamRequest(
        method="POST",
        url=join_url(claude.api_url, "/v1/messages"),
        headers=headers,
        body=body,
        proxy=_proxy(call.config) or None,
    )


def _credential(value: str, betas: str | None) -> list[tuple[str, str]]:
    """An API key is x-api-key; a subscription's OAuth token is a bearer and needs its beta."""
    if not value.startswith("sk-ant-oat"):
        headers = [("x-api-key", value)]
    else:
        headers = [("authorization", f"Bearer {value}")]
        if _OAUTH_BETA not in (betas or ""):
            betas = f"{betas},{_OAUTH_BETA}" if betas else _OAUTH_BETA
    if betas:
        headers.append(("anthropic-beta", betas))
    return headers


def _proxy(config: Config) -> str:
    return config.claude.proxy_url or config.proxy_url


# --- which key, and what the caller is told of it -----------------------------------------------


def _member(asked: Asked) -> ClaudeMember:
    return asked.member("claude", ClaudeMember) or ClaudeMember()


def is_claude_api(asked: Asked) -> bool:
    """True when the body means this API and not the claude.ai web conversation."""
    return "claude" not in asked.members or _member(asked).type in (None, "", "api")


def index(asked: Asked) -> str | None:
    """The key id that the body asks for."""
    said = _member(asked).index
    return None if said is None or said == "" else str(said)


def session(call: Call) -> dict[str, Any]:
    """What an answer carries of the key, to be sent back for the same one."""
    own: dict[str, Any] = {"type": "api"}
    if call.key.id:
        own["index"] = call.key.id
    return {"claude": own}


# --- models -------------------------------------------------------------------------------------


def models_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks for the list of models: GET /v1/models, the longest page."""
    return UpstreamRequest(
        method="GET",
        url=join_url(config.claude.api_url, f"/v1/models?limit={_MODELS_PER_PAGE}"),
        headers=[
            *_credential(key.val, None),
            ("anthropic-version", config.claude.api_version or _DEFAULT_VERSION),
        ],
        proxy=_proxy(config) or None,
    )


_models = msgspec.json.Decoder(ModelsAnswer)


def read_models(reply: UpstreamReply) -> list[dict[str, Any]]:
    """The models of the reply as OpenAI lists them. Raises GatewayError for a refusal."""
    if reply.status != 200:
        raise read_error(reply)
    try:
        answer = _models.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_response("Anthropic's list of models is not readable.") from None
    return [
        {
            "id": model.id,
            "object": "model",
            "created": _unix(model.created_at),
            "owned_by": "anthropic",
        }
        for model in answer.data
        if model.id
    ]


def _unix(date: str | None) -> int:
    try:
        return int(datetime.fromisoformat(date or "").timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


# --- what the engine is given -------------------------------------------------------------------

PROVIDER = Provider(
    name="claude-api",
    family="claude",
    pool=POOL,
    request=request,
    read_error=read_error,
    decoder=decoder,
    native=Native(wire="anthropic", read=read_native, request=request_native),
    index=index,
    session=session,
    retry=retry,
    count=Count(request=count_request, read=read_count, seconds=10.0),
    models_request=models_request,
    read_models=read_models,
)


def _pool_credential(key: Key, headers: Mapping[str, str], config: Config) -> list[tuple[str, str]]:
    # The gateway's beta goes into a second header; Anthropic joins it with the caller's.
    return _credential(key.val, None)


_BATCHES = re.compile(r"v1/messages/batches(/[^/]+)?(/cancel)?")
_RESULTS_URL = re.compile(rb'("results_url"\s*:\s*")https?://[^"]*?/(v1/messages/batches/[^"]*")')


def rewrite_results_url(path: str, public: str) -> Callable[[bytes], bytes] | None:
    """A function that points `results_url` of batch objects to the gateway; None for other paths.

    SDKs fetch the results of a batch from that address.
    """
    if not _BATCHES.fullmatch(path):
        return None
    ours = public.encode()
    return lambda body: _RESULTS_URL.sub(lambda found: found[1] + ours + found[2], body)


FORWARDS = (
    ForwardRule(
        prefix="/claude/api/",
        upstream_prefix="/",
        provider="claude-api",
        family="claude",
        pool=POOL,
        base=lambda config: config.claude.api_url,
        proxy=_proxy,
        credential=_pool_credential,
        credential_headers=("x-api-key", "authorization"),
        private_headers=("anthropic-organization-id", "anthropic-workspace-id"),
        defaults=lambda config: [
            ("anthropic-version", config.claude.api_version or _DEFAULT_VERSION)
        ],
        rewrite=rewrite_results_url,
        read_error=read_error,
    ),
)
