"""The Gemini API as a provider: OpenAI bodies, native bodies, and the reverse proxy's paths.

The key always travels in the x-goog-api-key header (OAuth tokens as bearer), never in a URL, so
that no log or error text can hold it. Source: Google's Gemini API reference.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct, structs

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.errors import GatewayError, bad_request, bad_response
from app.wire.model_in_body import with_model
from app.wire.provider import Call, Count, Decoder, ForwardRule, Key, Native, Provider, Upstream
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.gemini.answer import answer_decoder
from providers.gemini.embeddings import Embeddings, EmbeddingsDecoder, batch_body, converted
from providers.gemini.embeddings import read as read_embeddings
from providers.gemini.errors import read_close, read_error
from providers.gemini.functions import function_names
from providers.gemini.media import urls_to_fetch
from providers.gemini.models import LIMITS, Model
from providers.gemini.native_body import read_native, with_model_of_url
from providers.gemini.openai_request import Chat
from providers.gemini.parameters import MOST_STOPS
from providers.gemini.raw_json import read_object
from providers.gemini.request import read, to_generate_content
from providers.gemini.schema import ModelList, TokenCount

POOL = "google_gemini.api_keys"
DEFAULT_MODEL = "gemini-2.5-flash"
DEFAULT_VERSION = "v1beta"

# Request headers of Google's own clients that are passed on with their bodies.
_PASSED = ("x-goog-api-client", "x-server-timeout")
_NAMES_MODEL = ("countTokens", "embedContent", "batchEmbedContents")  # in the body, too
_VERSION = re.compile(r"v1(beta|alpha)?\d*")


class Options(Struct):
    """The body's `gemini` member."""

    type: str | None = None
    index: str | int | None = None


# Credentials and addresses


def version_of(key: Key, headers: Mapping[str, str]) -> str:
    """The API version: the caller's `x-version` with the caller's key, else the key's own."""
    if key.is_callers_own:
        version = headers.get("x-version", "").strip() or DEFAULT_VERSION
        if not _VERSION.fullmatch(version):
            raise bad_request("x-version must be v1, v1beta or v1alpha.", "x-version")
        return version
    version = key.fields.get("version", "").strip() or DEFAULT_VERSION
    if not _VERSION.fullmatch(version):
        raise GatewayError(
            500,
            f"{key.pool}: the version of the key {key.id} must be v1, v1beta or v1alpha.",
            code="config_error",
        )
    return version


def credential(key: Key) -> Headers:
    """The credential header. Gemini accepts only OAuth tokens as a bearer."""
    if key.val.startswith("ya29."):
        return [("authorization", f"Bearer {key.val}")]
    return [("x-goog-api-key", key.val)]


def _bearer(key: Key) -> Headers:
    """As Google's own OpenAI layer takes the key."""
    return [("authorization", f"Bearer {key.val}")]


def proxy(config: Config) -> str:
    """The proxy for requests to Gemini; "" for a direct connection."""
    return config.google_gemini.proxy_url or config.proxy_url


def model_of(call: Call) -> Model:
    """The model of a call, at the API version of its key. Raises GatewayError 400."""
    name = call.model or call.config.google_gemini.model or DEFAULT_MODEL
    return _model(name, version_of(call.key, call.headers))


_model = lru_cache(maxsize=256)(Model)  # asked for several times in each call


# The provider's functions


def request(call: Call) -> UpstreamRequest:
    """generateContent for an OpenAI body."""
    model = model_of(call)
    body, call.dropped = to_generate_content(call.chat, model, call.learned or {})
    return _ask(call, model, body)


def retry(call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
    """The same request with as many tokens as this model may answer with."""
    asked = call.chat.max_completion_tokens or call.chat.max_tokens
    if reply.status != 400:
        return None
    is_learned = LIMITS.learn(model_of(call).path, read_error(reply).message, asked)
    return request(call) if is_learned else None


def count_request(call: Call) -> UpstreamRequest:
    """countTokens of a neutral request."""
    model = model_of(call)
    body, _ = to_generate_content(call.chat, model, {})
    upstream = _ask(call, model, body)
    upstream.url = upstream.url.replace(":generateContent", ":countTokens")
    asked = {"model": model.path, **read_object(body)}
    upstream.body = msgspec.json.encode({"generateContentRequest": asked})
    return upstream


def read_count(reply: UpstreamReply) -> int | None:
    """The tokens of a prompt; None for another answer."""
    try:
        return msgspec.json.decode(reply.body, type=TokenCount).total_tokens
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def stops(call: Call) -> bool:
    """Whether Gemini is told the stop sequences."""
    return len(call.chat.stops()) <= MOST_STOPS


def native_request(call: Call) -> UpstreamRequest:
    """generateContent for a body that is already in its shape, or another method of the model."""
    asked = call.asked
    if not asked.method:
        return _ask(call, model_of(call), call.chat)
    # The caller's version, whatever the key's is.
    model = _model(call.model, call.repairs[0] if call.repairs else asked.api_version)
    method = f"{asked.method}?{asked.query}" if asked.query else asked.method
    path = f"/{model.version}/{model.path}:{method}"
    body: bytes = call.chat
    if asked.model != call.model and asked.method in _NAMES_MODEL:
        body = with_model_of_url(body, asked.model, model.path)
    upstream = _post(call, path, body, credential(call.key))
    upstream.headers += [(n, value) for n in _PASSED if (value := call.headers.get(n))]
    return upstream


# In refusals that are about the version, or may be.
_OF_THE_VERSION = re.compile(r"API version|Cannot find field|function calling|tool use", re.I)


def retry_native(call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
    """The same request of v1beta, where v1 has refused what it lacks.

    Google's SDKs of November 2026 and later ask v1 unless told otherwise. It knows neither the
    previews nor the names that end in `-latest`, and no tools for older models.
    """
    asked = call.asked
    if asked.api_version != "v1" or reply.status not in (400, 404) or call.repairs:
        return None
    if not _OF_THE_VERSION.search(read_error(reply).message):
        return None
    call.repairs = (DEFAULT_VERSION,)
    return native_request(call)


def _ask(call: Call, model: Model, body: bytes) -> UpstreamRequest:
    method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
    return _post(call, f"/{model.version}/{model.path}:{method}", body, credential(call.key))


def _post(call: Call, path: str, body: bytes, key: Headers) -> UpstreamRequest:
    is_events = "alt=sse" in path
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.google_gemini.api_url, path),
        headers=[
            ("Content-Type", "application/json"),
            ("Accept", "text/event-stream" if is_events else "application/json"),
            ("Accept-Encoding", "identity"),  # compression would delay events
            *key,
        ],
        body=body,
        proxy=proxy(call.config) or None,
    )


def image_urls(chat: Chat, model: Model) -> list[str]:
    """The image URLs that the gateway must fetch, because the model will not."""
    return [] if model.fetches_urls else urls_to_fetch(chat)


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Fetches images for models that take no URLs. `learned`: url -> (mime type, content)."""
    urls = image_urls(call.chat, model_of(call))
    if not urls or call.learned:
        return call
    return structs.replace(call, learned=await upstream.fetch(urls))


def decoder(call: Call) -> Decoder:
    """The decoder of an answer to an OpenAI body."""
    renamed = function_names(call.chat).renamed
    return answer_decoder(call, _asked_model(call), renamed)


def native_decoder(call: Call) -> Decoder:
    """The decoder of an answer to a native body."""
    return answer_decoder(call, _asked_model(call), {})


def _asked_model(call: Call) -> str:
    name = call.model or call.config.google_gemini.model or DEFAULT_MODEL
    return name.removeprefix("models/")


def index(asked: Asked) -> str | None:
    """`gemini.index`: the id of the key that shall be used."""
    options = asked.member("gemini", Options)
    return None if options is None or options.index in (None, "") else str(options.index)


def session(call: Call) -> dict[str, Any]:
    """What an answer carries of the key, to be sent back for the same one."""
    own = {"type": "api"} if call.key.is_callers_own else {"type": "api", "index": call.key.id}
    return {"gemini": own}


# Models

_models = msgspec.json.Decoder(ModelList)


def models_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks for the list of models."""
    path = f"/{version_of(key, {})}/models?pageSize=1000"
    return UpstreamRequest(
        method="GET",
        url=join_url(config.google_gemini.api_url, path),
        headers=[*credential(key), ("Accept-Encoding", "gzip")],
        proxy=proxy(config) or None,
    )


def read_models(reply: UpstreamReply) -> list[dict[str, Any]]:
    """The models that can chat, as OpenAI lists them."""
    if reply.status != 200:
        raise read_error(reply)
    try:
        models = _models.decode(reply.body).models or []
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise bad_response(f"Gemini's list of models cannot be read: {error}.") from None
    return [
        {
            "id": model.name.removeprefix("models/"),
            "object": "model",
            "created": 0,
            "owned_by": "google",
        }
        for model in models
        if model.name and "generateContent" in (model.supported_generation_methods or [])
    ]


# Beside chat


def embeddings_request(call: Call, number: int = -1) -> UpstreamRequest:
    """batchEmbedContents for a batch of an OpenAI body's texts, by default the last one."""
    asked: Embeddings = call.chat
    call.dropped = list(asked.dropped)
    model = _model(call.model, version_of(call.key, call.headers))
    body = batch_body(asked, asked.batches()[number], model.path)
    path = f"/{model.version}/{model.path}:batchEmbedContents"
    return _post(call, path, body, credential(call.key))


async def embed_the_others(call: Call, upstream: Upstream) -> Call:
    """Asks for all batches but the last. `learned`: what `converted` makes of the answers."""
    asked: Embeddings = call.chat
    how = call.config.limits.response_bytes, asked.dimensions is not None, asked.is_base64
    replies = []
    for number in range(len(asked.batches()) - 1):
        reply = await upstream.send(embeddings_request(call, number))
        if reply.status != 200:
            raise read_error(reply)
        replies.append(await upstream.offload(converted, reply.body, *how))
    return structs.replace(call, learned=replies)


def images_request(call: Call) -> UpstreamRequest:
    """OpenAI's body for a picture, to Google's own OpenAI layer."""
    body = with_model(call.chat, call.asked.model, call.model)
    path = f"/{version_of(call.key, call.headers)}/openai/images/generations"
    return _post(call, path, body, _bearer(call.key))


# The values

_CHAT = Provider(
    name="gemini-api",
    family="gemini",
    pool=POOL,
    read=read,
    request=request,
    decoder=decoder,
    read_error=read_error,
    # A generateContent body with `model` (and `stream`) in it, as POST /gemini/openai takes it.
    native=Native(
        wire="gemini",
        read=read_native,
        request=native_request,
        decoder=native_decoder,
        retry=retry_native,
    ),
    prepare=prepare,
    retry=retry,
    count=Count(request=count_request, read=read_count, seconds=2.0),
    stops=stops,
    server_tools=frozenset(("web_search", "web_fetch")),
    index=index,
    session=session,
    own_headers=("x-goog-api-key",),
    models_request=models_request,
    read_models=read_models,
)
_BESIDE = structs.replace(_CHAT, session=lambda call: {})
PROVIDER = structs.replace(
    _CHAT,
    endpoints={
        "embeddings": structs.replace(
            _BESIDE,
            native=Native(
                wire="openai-endpoint",
                read=read_embeddings,
                request=embeddings_request,
                prepare=embed_the_others,
                untouched=EmbeddingsDecoder,
            ),
        ),
        "images/generations": structs.replace(
            _BESIDE,
            native=Native(wire="openai-endpoint", read=Asked.carried, request=images_request),
        ),
    },
)


# The reverse proxy


def _forward_credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    return credential(key)


def is_misplaced(header: str, token: str) -> bool:
    """Whether an API key was sent as a bearer, where Google accepts only OAuth tokens, and
    the ephemeral ones of its live API as `Token auth_tokens/...`."""
    return header == "authorization" and not token.startswith(("ya29.", "ey", "Token "))


def _forward(prefix: str, upstream_prefix: str, **more: Any) -> ForwardRule:
    return ForwardRule(
        prefix=prefix,
        upstream_prefix=upstream_prefix,
        provider="gemini-api",
        family="gemini",
        pool=POOL,
        base=lambda config: config.google_gemini.api_url,
        proxy=proxy,
        credential_headers=("x-goog-api-key", "authorization"),
        credential_query=("key",),
        own_query=("access_token",),  # an ephemeral token of the live API
        read_error=read_error,
        **more,
    )


# Google's own OpenAI layer is the one place where an API key is a bearer token.
FORWARDS = (
    *(
        _forward(
            f"/gemini/{version}/openai/",
            f"/{version}/openai/",
            credential=lambda key, headers, config: _bearer(key),
        )
        for version in ("v1beta", "v1", "v1alpha")
    ),
    _forward(
        "/gemini/",
        "/",
        credential=_forward_credential,
        moves=is_misplaced,
        websockets=True,
        read_close=read_close,
    ),
)
