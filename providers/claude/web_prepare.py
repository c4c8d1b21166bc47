"""The requests before a question: organization, conversation, thinking, uploaded files.

Source: public clients and captures of claude.ai.
"""

import uuid
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from app.wire.errors import bad_response
from app.wire.image_bytes import Picture
from app.wire.multipart import form_data
from app.wire.provider import Call, Key, Upstream
from providers.claude import web_errors
from providers.claude.web_question import Document, WebQuestion
from providers.claude.web_schema import UUID, Conversation, Created, Organization, Uploaded
from providers.claude.web_session import SessionClient, session_cookie


class Ready(Struct):
    """What `prepare` found out; `files` are the ids of the uploaded files."""

    organization_id: str
    conversation: Conversation
    files: list[str]
    cookies: str


async def prepare(call: Call, upstream: Upstream) -> Call:
    """Makes the requests that come before the question. Raises GatewayError for a refusal."""
    ask: WebQuestion = call.chat
    client = SessionClient(call, upstream, session_cookie(call.key))
    organization_id = call.key.fields.get("organization_id") or await _organization(client)
    base = f"/api/organizations/{quote(organization_id, safe='')}/chat_conversations"
    conversation = ask.conversation
    if not conversation.uuid:
        conversation = await _create(client, base, ask)
    if ask.thinks:
        wish = {"settings": {"paprika_mode": "extended"}}
        # Only paid accounts may; the answer is a good one without it too.
        await client.send("PUT", f"{base}/{conversation.uuid}", msgspec.json.encode(wish))
    files = [
        await _upload(client, organization_id, file, n)
        for n, file in enumerate(ask.enclosed.files, 1)
    ]
    ready = Ready(organization_id, conversation, files, client.cookies)
    return msgspec.structs.replace(client.call, learned=ready)


async def _organization(client: SessionClient) -> str:
    """The id of the organization that can chat; stored with the session for later calls."""
    found = await client.request("GET", "/api/organizations", None, list[Organization])
    able = [o for o in found if o.uuid and "chat" in (o.capabilities or [])]
    if not able:
        raise web_errors.no_chat_organization()
    chosen = max(able, key=lambda o: len(o.capabilities or [])).uuid
    key = client.call.key
    fields = {**key.fields, "organization_id": chosen}
    await client.use(Key(key.pool, key.id, key.val, fields))
    return chosen


async def _create(client: SessionClient, base: str, ask: WebQuestion) -> Conversation:
    body: dict[str, Any] = {
        "uuid": str(uuid.UUID(hex=client.call.new_id())),
        "name": ask.conversation.name or "",
        "include_conversation_preferences": True,
        "is_temporary": False,
    }
    if ask.model is not None:  # a free account may name none, so only what the caller named
        body["model"] = ask.model
    made = await client.request("POST", base, body, Created)
    if not UUID.match(made.uuid):
        raise bad_response("claude.ai made a conversation without a uuid.")
    return Conversation(
        made.uuid,
        made.name,
        made.summary,
        made.model or ask.model,
        made.created_at,
        made.updated_at,
    )


async def _upload(
    client: SessionClient, organization_id: str, file: Picture | Document, number: int
) -> str:
    boundary = "----WebKitFormBoundary" + client.call.new_id()[:16]
    disposition = f'name="file"; filename="{file.name(number)}"'
    body = form_data(boundary, [(disposition, file.media_type, file.data)])
    path = f"/api/{quote(organization_id, safe='')}/upload"
    reply = await client.send("POST", path, body, f"multipart/form-data; boundary={boundary}")
    found = client.expect(reply, Uploaded)
    if not found.file_uuid:
        raise bad_response("claude.ai gave no id for an uploaded file.")
    return found.file_uuid
