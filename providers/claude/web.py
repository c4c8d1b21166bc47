"""claude.ai as a provider: a person's own signed-in session, used as the web app's script does.

    organization (unless known) -> conversation (unless continued) -> files -> the question

Private and undocumented; facts from public clients and captures. The history lives upstream, so a
continued conversation is sent only what is new, and a new one everything at once.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest, plain
from app.wire.cookies import read_cookie_header
from app.wire.dropped import dropped_parameters
from app.wire.errors import GatewayError, bad_request
from app.wire.provider import Call, Decoder, ForwardRule, Key, Provider
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.claude import web_errors
from providers.claude.web_decode import WebDecoder, told_conversation
from providers.claude.web_prepare import Ready, prepare
from providers.claude.web_question import (
    DROPPED,
    WebQuestion,
    json_wish,
    pasted_text,
    refuse_unsupported,
    to_prompt,
)
from providers.claude.web_schema import UUID, ClaudeMember, Conversation
from providers.claude.web_session import browser_headers, proxy, renewed, session_cookie

POOL = "claude.web_sessions"
FIRST_MESSAGE = "00000000-0000-4000-8000-000000000000"  # the parent of a conversation's first turn
_IN_PATH = re.compile(r"/chat_conversations/([0-9a-fA-F-]{36})(?:/|$)")


# Reading what the caller sent


def read(chat: ChatRequest, asked: Asked) -> WebQuestion:
    """Raises GatewayError 400 for what the site cannot be asked."""
    member = asked.member("claude", ClaudeMember) or ClaudeMember()
    refuse_unsupported(chat)
    conversation = member.conversation or Conversation()
    if conversation.uuid and not UUID.match(conversation.uuid):
        raise bad_request("This is no conversation's uuid.", param="claude.conversation.uuid")
    prompt, pasted, enclosed = to_prompt(chat.messages, continued=bool(conversation.uuid))
    wanted = plain(chat.response_format or {})
    if wanted.get("type") in ("json_schema", "json_object"):
        prompt += "\n\n" + json_wish(wanted)
    model = (conversation.model or chat.model or "").rpartition("/")[2]
    return WebQuestion(
        conversation,
        prompt,
        pasted,
        enclosed,
        model if model.startswith("claude-") else None,
        chat.reasoning_effort in ("medium", "high", "xhigh", "max"),
        dropped_parameters(chat, DROPPED),
    )


def index(asked: Asked) -> str | None:
    """`claude.index`: the id of the session that shall be used."""
    member = asked.member("claude", ClaudeMember)
    return member.index if member is not None else None


def conversation(ask: WebQuestion) -> str | None:
    """The conversation a body goes on with."""
    return ask.conversation.uuid


def conversation_of(own: dict[str, Any]) -> str | None:
    """The conversation in what is handed out."""
    found: str | None = own["claude"]["conversation"].get("uuid")
    return found


def resumed(own: dict[str, Any]) -> dict[str, Any] | None:
    """The member that goes on with what was handed out."""
    member: dict[str, Any] = own.get("claude") or {}
    return member if (member.get("conversation") or {}).get("uuid") else None


def session(call: Call) -> dict[str, Any]:
    """What every chunk carries, to be sent back unchanged in order to go on."""
    own: dict[str, Any] = {"type": "web"}
    if call.key.id:
        own["index"] = call.key.id
    ready: Ready = call.learned
    own["conversation"] = told_conversation(ready.conversation)
    return {"claude": own}


# The question


def request(call: Call) -> UpstreamRequest:
    """The question, in the conversation that `prepare` has found or made."""
    ask: WebQuestion = call.chat
    ready: Ready = call.learned
    call.dropped[:] = ask.dropped
    body: dict[str, Any] = {
        "prompt": ask.prompt,
        "timezone": "UTC",
        "attachments": list(ask.enclosed.texts),
        "files": ready.files,
        "sync_sources": [],
        "rendering_mode": "messages",
    }
    if ask.pasted:
        body["attachments"].insert(0, pasted_text(ask.pasted, "paste.txt"))
    if ask.model is not None:
        body["model"] = ask.model
    if not ask.conversation.uuid:
        body["parent_message_uuid"] = FIRST_MESSAGE
    elif ask.conversation.parent_message_uuid:
        body["parent_message_uuid"] = ask.conversation.parent_message_uuid
    conversation_id = ready.conversation.uuid or ""
    headers = browser_headers(call.config, ready.cookies, f"/chat/{conversation_id}")
    headers[0] = ("Accept", "text/event-stream")
    headers.append(("Content-Type", "application/json"))
    organization = quote(ready.organization_id, safe="")
    path = f"/api/organizations/{organization}/chat_conversations/{conversation_id}/completion"
    return UpstreamRequest(
        method="POST",
        url=join_url(call.config.claude.web_url, path),
        headers=headers,
        body=msgspec.json.encode(body),
        via="browser",
        proxy=proxy(call.config),
    )


def decoder(call: Call) -> Decoder:
    """The decoder of the answer; it adds the conversation to go on with."""
    ready: Ready = call.learned
    return WebDecoder(
        ready.conversation,
        ready.conversation.model or call.model,
        call.now,
        call.config.limits.response_bytes,
    )


def read_error(reply: UpstreamReply) -> GatewayError:
    """What a refusal means; see `web_errors`."""
    return web_errors.read_error(reply)


def explain(call: Call, reply: UpstreamReply) -> GatewayError:
    """What a refusal of a call means; the call's time gives the seconds until a limit ends."""
    return web_errors.read_error(reply, call.now)


def check_request(config: Config, key: Key) -> UpstreamRequest:
    """Asks which organizations the session belongs to, the web app's own first request."""
    return UpstreamRequest(
        method="GET",
        url=join_url(config.claude.web_url, "/api/organizations"),
        headers=browser_headers(config, session_cookie(key)),
        via="browser",
        proxy=proxy(config),
    )


PROVIDER = Provider(
    name="claude-web",
    family="claude",
    pool=POOL,
    read=read,
    request=request,
    read_error=read_error,
    decoder=decoder,
    index=index,
    session=session,
    prepare=prepare,
    explain=explain,
    renewed=renewed,
    conversation=conversation,
    conversation_of=conversation_of,
    resumed=resumed,
    check_request=check_request,
    stops=lambda call: False,
)


def _own(headers: Mapping[str, str]) -> str:
    """The caller's session: their sessionKey cookie, else their Authorization."""
    held = read_cookie_header(headers.get("cookie", "")).get("sessionKey", "")
    return held or headers.get("authorization", "")


def _credential(key: Key, headers: Mapping[str, str], config: Config) -> Headers:
    said = browser_headers(config, session_cookie(key))
    return [(n, v) for n, v in said if n != "Accept"]


def _base(config: Config) -> str:
    return config.claude.web_url


def _proxy(config: Config) -> str:
    return config.claude.proxy_url


def _conversation_in(path: str) -> str | None:
    found = _IN_PATH.search(path)
    return found[1] if found else None


FORWARDS = (
    ForwardRule(
        prefix="/claude/web/",
        upstream_prefix="/",
        provider="claude-web",
        family="claude",
        pool=POOL,
        base=_base,
        proxy=_proxy,
        via="browser",
        credential=_credential,
        credential_headers=("authorization", "anthropic-client-platform"),
        own=_own,
        renewed=renewed,
        conversation=_conversation_in,
        read_error=read_error,
    ),
)
