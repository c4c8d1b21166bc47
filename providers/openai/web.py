"""ChatGPT's website as a provider: a person's own session, or none, used as the site's script does.

Two steps: `prepare` makes the requests that come before the question (see `web_prepare`);
`request` is then pure. Private and undocumented. Source: public clients of chatgpt.com.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import (
    ChatRequest,
    read_members,
)
from app.wire.dropped import dropped_parameters
from app.wire.errors import GatewayError, bad_request, from_validation
from app.wire.provider import Call, Decoder, ForwardRule, Key, Native, Provider
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.openai import web_errors, web_images
from providers.openai.web_body import question_body
from providers.openai.web_decode import OwnStream, WebDecoder
from providers.openai.web_frames import AnswerFrames
from providers.openai.web_prepare import Ready, prepare, refresh
from providers.openai.web_question import DROPPED, WebQuestion, refuse_unsupported, to_prompt
from providers.openai.web_schema import (
    Conversation,
    NativeAsk,
    OpenAIMember,
    WebModels,
)
from providers.openai.web_session import (
    backend,
    browser_headers,
    device_id,
    device_of,
    origin,
    proxy,
    session_request,
    user_agent,
)

POOL = "openai.web_sessions"
ANONYMOUS_POOL = "openai.anonymous"  # never configured: the routes that ask without an account
# Headers of a reverse-proxied request that identify the session.
_REPLACED = ("authorization", "oai-device-id", "oai-language", "chatgpt-account-id")
_IN_PATH = re.compile(r"conversation/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|$)")
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}\Z")


# Reading what the caller sent


def read(chat: ChatRequest, asked: Asked) -> WebQuestion:
    """An OpenAI-shaped request. Raises GatewayError 400 for what the site cannot be asked."""
    member = asked.member("openai", OpenAIMember) or OpenAIMember()
    refuse_unsupported(chat)
    state = member.state()
    prompt, pictures = to_prompt(chat.messages, continued=state.conversation_id is not None)
    return WebQuestion(
        state,
        member.message_id or None,
        member.arkose_token or None,
        prompt,
        pictures,
        dropped=dropped_parameters(chat, DROPPED),
    )


def read_native(asked: Asked) -> WebQuestion:
    """The site's own body: what it must have is there, everything else stays as it is."""
    body = asked.body
    try:
        must = msgspec.json.decode(body, type=NativeAsk)
        native = read_members(body)  # values stay bytes, whatever their size
        body.decode()  # which have not been looked at
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not must.messages:
        raise bad_request("A question needs a message.", param="messages")
    for name in ("stream", "provider", "openai"):
        native.pop(name, None)
    state = Conversation(must.conversation_id or None, None, must.parent_message_id)
    return WebQuestion(state, must.messages[0].id, must.arkose_token or None, native=native)


def index(asked: Asked) -> str | None:
    """`openai.index`: the id of the session that shall be used."""
    member = asked.member("openai", OpenAIMember)
    return member.state().index if member is not None else None


def resumed(own: dict[str, Any]) -> dict[str, Any] | None:
    """The member that goes on with what was handed out."""
    member: dict[str, Any] = own.get("openai") or {}
    return member if member.get("conversation_id") else None


def session(call: Call) -> dict[str, Any]:
    """What an answer carries, to be sent back in order to go on."""
    return {"openai": _session(call)}


def _session(call: Call) -> dict[str, Any]:
    """What every chunk carries for the next turn; the conversation is added when it is known."""
    if call.key.id:
        return {"index": call.key.id}
    if not call.key.val:
        return {"device_id": device_id(call)}
    return {}


# The question


def request(call: Call) -> UpstreamRequest:
    """The question, with the tokens that `prepare` has fetched."""
    ask: WebQuestion = call.chat
    ready: Ready = call.learned
    call.dropped[:] = ask.dropped
    headers = browser_headers(call.key, call.config, ready.device_id, ready.cookies)
    headers[0] = ("Accept", "text/event-stream")
    headers.append(("Content-Type", "application/json"))
    token = ready.requirements.token
    headers.append(("OpenAI-Sentinel-Chat-Requirements-Token", token))
    if ready.proof is not None:
        headers.append(("OpenAI-Sentinel-Proof-Token", ready.proof))
    if ready.arkose_token is not None:
        headers.append(("OpenAI-Sentinel-Arkose-Token", ready.arkose_token))
    turnstile = call.headers.get("openai-sentinel-turnstile-token")
    if turnstile:
        headers.append(("OpenAI-Sentinel-Turnstile-Token", turnstile))
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.openai.chat_web_url, backend(call.key) + "/conversation"),
        headers=headers,
        body=msgspec.json.encode(question_body(call, ask, ready)),
        via="browser",
        proxy=proxy(call.config),
    )


# The answer


def frames(call: Call) -> AnswerFrames:
    """The framing of an answer; a websocket is opened as this session's browser would."""
    return AnswerFrames(origin(call.config), user_agent(call.key), proxy(call.config))


def decoder(call: Call) -> Decoder:
    """The translating decoder, which links pictures to this gateway."""
    ask: WebQuestion = call.chat
    ready: Ready = call.learned
    key = call.key
    base = public_address(call.headers, call.config)

    def image_link(pointer: str, conversation_id: str) -> str | None:
        path = web_images.link(pointer, conversation_id, key)
        return base + path if path is not None else None

    native = ask.native is not None
    return WebDecoder(
        frames(call),
        image_link=image_link,
        model=call.model,
        own_ids=(ready.message_id,),
        parent_id=ready.parent_id if ready.conversation_id or native else None,
        session=_session(call),
        prompt_size=len(ask.prompt),
        max_bytes=call.config.limits.response_bytes,
    )


def public_address(headers: Mapping[str, str], config: Config) -> str:
    """The gateway's own origin as this caller sees it; "" without a valid Host header."""
    host = headers.get("host") or ""
    if not _HOST.match(host):
        return ""
    proto = (headers.get("x-forwarded-proto") or "").lower()
    if proto not in ("http", "https"):
        proto = "https" if config.https_info.enable else "http"
    return f"{proto}://{host}"


def own_stream(call: Call) -> Decoder:
    """The decoder that passes the site's own stream on unchanged."""
    return OwnStream(frames(call), call.config.limits.response_bytes)


def read_error(reply: UpstreamReply) -> GatewayError:
    """What a refusal means; see `web_errors`."""
    return web_errors.read_error(reply)


def explain(call: Call, reply: UpstreamReply) -> GatewayError:
    """A refused question. The site often lets a missing Turnstile answer pass, but not always."""
    ready: Ready = call.learned
    error = web_errors.read_error(reply, anonymous=not call.key.val)
    turnstile = ready.requirements.turnstile
    if (
        reply.status == 403
        and error.code != "cloudflare_challenge"
        and turnstile is not None
        and turnstile.required
        and not call.headers.get("openai-sentinel-turnstile-token")
    ):
        return web_errors.turnstile_required()
    if call.chat.native is not None and error.code != "cloudflare_challenge":
        error.raw = reply.body if reply.body[:1] == b"{" else None
    return error


def conversation(ask: WebQuestion) -> str | None:
    """The conversation a body goes on with."""
    return ask.state.conversation_id


def conversation_of(own: dict[str, Any]) -> str | None:
    """The conversation in what is handed out."""
    found: str | None = own["openai"].get("conversation_id")
    return found


def models_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks which models the session may use."""
    return session_request(config, key, backend(key) + "/models")


def read_models(reply: UpstreamReply) -> list[dict[str, Any]]:
    """The models of the reply as OpenAI lists them."""
    found = msgspec.json.decode(reply.body, type=WebModels).models
    return [
        {"id": model.slug, "object": "model", "created": 0, "owned_by": "openai"}
        for model in found
        if model.slug
    ]


PROVIDER = Provider(
    name="openai-chat-web",
    family="openai",
    pool=POOL,
    read=read,
    request=request,
    read_error=read_error,
    decoder=decoder,
    index=index,
    session=session,
    prepare=prepare,
    explain=explain,
    conversation=conversation,
    conversation_of=conversation_of,
    resumed=resumed,
    # The site's own body, answered in OpenAI's words or with the site's own stream.
    native=Native(
        wire="chatgpt-web",
        read=read_native,
        request=request,
        prepare=prepare,
        untouched=own_stream,
        index=lambda asked: None,
    ),
    anonymous=True,
    models_request=models_request,
    read_models=read_models,
    stops=lambda call: False,
)

# Anonymous: without a session.
ANONYMOUS = msgspec.structs.replace(PROVIDER, pool=ANONYMOUS_POOL, takes_own_key=False)


def _own(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "")


def _credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    """The headers of this session's browser, except those the caller sends better."""
    device = key.fields.get("device_id") or device_of(key)
    said = browser_headers(key, config, device, key.fields.get("cookies", ""))
    return [(n, v) for n, v in said if n.lower() not in ("accept", "accept-language")]


def _proxy(config: Config) -> str:
    return config.openai.proxy_url


def _conversation_in(path: str) -> str | None:
    found = _IN_PATH.match(path)
    return found[1] if found else None


FORWARDS = tuple(
    ForwardRule(
        prefix=prefix,
        upstream_prefix=prefix,
        provider="openai-chat-web",
        family="openai",
        pool=POOL,
        base=origin,
        proxy=_proxy,
        via="browser",
        credential=_credential,
        credential_headers=_REPLACED,
        own=_own,
        refresh=refresh,
        anonymous=True,
        conversation=_conversation_in,
        read_error=read_error,
    )
    for prefix in ("/backend-api/", "/public-api/")
)
