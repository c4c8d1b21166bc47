"""HTTP requests about Bing conversations: create, list and delete, with the page's own headers.

Source: recorded requests and several independent clients.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from app.config.schema import Config
from app.wire.chat import not_json
from app.wire.errors import bad_request, from_validation
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest, join_url
from providers.bing import schema
from providers.bing.errors import read_error, result_error, unauthorized

BUNDLE_VERSION = "1.1694.0"
_REFERER = "/chat?q=Bing+AI&FORM=hpcodx"
NewId = Callable[[], str]


def page_headers(config: Config, now: int, new_id: NewId, referer: str = _REFERER) -> Headers:
    """The headers the page adds to a browser's own, with a new request id."""
    return [
        ("accept", "application/json"),
        ("referer", join_url(config.bing.web_url, referer)),
        (
            "x-ms-useragent",
            "azsdk-js-api-client-factory/1.0.0-beta.1 core-rest-pipeline/1.15.1 OS/Linux",
        ),
        ("x-ms-client-request-id", new_uuid(new_id)),
        ("cookie", cookie(now)),
    ]


def cookie(now: int) -> str:
    """The Cookie header of an anonymous browser; `now` in Unix seconds."""
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    return (
        "SRCHD=AF=NOFORM; PPLState=1; KievRPSSecAuth=; SUID=; SRCHUSR=; BCP=AD=1&AL=1&SM=1; "
        f"SRCHHPGUSR=HV={now}; _Rwho=u=d&ts={day}"
    )


def new_uuid(new_id: NewId) -> str:
    """A new id in the form of a UUID."""
    id = new_id()
    return f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"


def proxy(config: Config) -> str | None:
    """The proxy for requests to Bing; None for a direct connection."""
    return config.bing.proxy_url or config.proxy_url or None


def _hub_origin(config: Config) -> str:
    """The hub's HTTP address: ws becomes http, wss https."""
    url = config.bing.ws_url
    return "http" + url[2:] if url.startswith("ws") else url


def _get(config: Config, path: str, now: int, new_id: NewId) -> UpstreamRequest:
    return UpstreamRequest(
        method="GET",
        url=join_url(config.bing.web_url, path),
        headers=page_headers(config, now, new_id),
        via="browser",
        proxy=proxy(config),
    )


def create_request(config: Config, now: int, new_id: NewId) -> UpstreamRequest:
    """Creates a conversation; `read_created` reads the reply."""
    path = f"/turing/conversation/create?bundleVersion={BUNDLE_VERSION}"
    return _get(config, path, now, new_id)


def read_created(reply: UpstreamReply) -> schema.Conversation:
    """The new conversation, whose signature comes in a header only.

    Raises GatewayError for a refusal, and for a reply without id or signature.
    """
    _check(reply)
    try:
        created = msgspec.json.decode(reply.body, type=schema.Created)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise unauthorized("answered with a page in place of a conversation") from None
    result = created.result or schema.Result()
    if result.value not in ("Success", "", None):
        raise result_error(result)
    signature = reply.headers.get("x-sydney-encryptedconversationsignature", "")
    if not (created.conversation_id and created.client_id and signature):
        raise unauthorized("gave a conversation without id or signature")
    return schema.Conversation(created.conversation_id, created.client_id, signature)


def list_request(config: Config, now: int, new_id: NewId) -> UpstreamRequest:
    """Lists the conversations of the anonymous session."""
    return _get(config, "/turing/conversation/chats", now, new_id)


def delete_request(config: Config, body: bytes, now: int, new_id: NewId) -> UpstreamRequest:
    """Deletes the conversation named in the body of DELETE /bing/conversation.

    Bing itself wants a POST. Raises GatewayError 400 for a body without id, signature or
    participant.
    """
    try:
        asked = msgspec.json.decode(body, type=schema.DeleteAsked)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(body, error) from None
    for name, value in (
        ("conversationId", asked.conversation_id),
        ("conversationSignature", asked.conversation_signature),
        ("participant.id", asked.participant.id),
    ):
        if not value:
            raise bad_request(f"{name} is needed to delete a conversation.", param=name)
    return UpstreamRequest(
        method="POST",
        url=join_url(_hub_origin(config), "/sydney/DeleteSingleConversation"),
        headers=[*page_headers(config, now, new_id), ("content-type", "application/json")],
        body=msgspec.json.encode(
            schema.Delete(asked.conversation_id, asked.conversation_signature, asked.participant)
        ),
        via="browser",
        proxy=proxy(config),
    )


def read_passed(reply: UpstreamReply) -> bytes:
    """The body of a list or delete reply, unchanged. Raises GatewayError for a refusal."""
    _check(reply)
    return reply.body


def _check(reply: UpstreamReply) -> None:
    if not 200 <= reply.status < 300:
        raise read_error(reply)
