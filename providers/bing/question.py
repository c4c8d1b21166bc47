"""The record that asks the hub a question, and how the messages of a request fill it.

Source: recorded frames and several independent clients.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from app.wire.chat import ChatRequest, Message
from app.wire.errors import bad_request
from app.wire.provider import Call
from providers.bing import schema
from providers.bing.conversations import new_uuid

RECORD_END = "\x1e"
_OPTIONS = [
    "nlu_direct_response_filter",
    "deepleo",
    "disable_emoji_spoken_text",
    "responsible_ai_policy_235",
    "enablemm",
    "dv3sugg",
    "iyxapbing",
    "iycapbing",
    "uquopt",
    "techinstgnd",
    "rctechalwlst",
    "eredirecturl",
    "bcechat",
    "gencontentv3",
]
# Tone by a word in the model's name; the first is what any other name gets.
_TONES = {
    "Creative": ["h3imaginative", "clgalileo"],
    "Balanced": ["galileo"],
    "Precise": ["h3precise", "clgalileo"],
}
# Search results, loader messages and ads are left out. Disengaged is how Bing ends a conversation.
_MESSAGE_TYPES = [
    "ActionRequest",
    "Chat",
    "ConfirmationCard",
    "Context",
    "Disengaged",
    "GenerateContentQuery",
    "InvokeAction",
    "Progress",
    "RenderContentRequest",
    "SearchQuery",
]


def tone_of(model: str) -> str:
    """The conversation tone that the model's name asks for; Creative by default."""
    lower = model.lower()
    return next((tone for tone in _TONES if tone.lower() in lower), "Creative")


def last_question(chat: ChatRequest) -> tuple[int, Message]:
    """The last user message and its index. Raises GatewayError 400 when there is none."""
    for i in range(len(chat.messages) - 1, -1, -1):
        if chat.messages[i].role == "user":
            return i, chat.messages[i]
    raise bad_request("There must be a message of role user.", param="messages")


class Learned(Struct):
    """What `prepare` found out. `is_start`: the conversation has had no turn yet."""

    conversation: schema.Conversation
    is_start: bool


def question(call: Call) -> str:
    """The record of type 4 that asks the turn's question."""
    chat: ChatRequest = call.chat.chat
    learned: Learned = call.learned
    conversation = learned.conversation
    place, message = last_question(chat)
    text = message.text()
    if not text and not conversation.image_url:
        raise bad_request("The question has no text.", param=f"messages[{place}].content")
    tone = tone_of(call.model)
    request_id = new_uuid(call.new_id)
    user = schema.UserMessage(
        text=text,
        request_id=request_id,
        message_id=request_id,
        timestamp=datetime.fromtimestamp(call.now, UTC).isoformat(),
        image_url=conversation.image_url,
        original_image_url=conversation.image_url,
    )
    argument: dict[str, Any] = {
        "source": "cib",
        "optionsSets": _OPTIONS + _TONES[tone],
        "allowedMessageTypes": _MESSAGE_TYPES,
        "sliceIds": [],
        "traceId": conversation.trace_id,
        "conversationHistoryOptionsSets": ["threads_bce", "savemem", "uprofupd", "uprofgen"],
        "isStartOfSession": learned.is_start,
        "requestId": request_id,
        "message": {
            "locale": "en-US",
            "market": "en-US",
            "region": "US",
            "author": "user",
            "inputMethod": "Keyboard",
            "messageType": "Chat",
            **msgspec.to_builtins(user),
        },
        "scenario": "SERP",
        "tone": tone,
        "spokenTextMode": "None",
        "conversationId": conversation.conversation_id,
        "participant": {"id": conversation.client_id},
    }
    # A continued conversation knows its turns; a new one is told what came before.
    late = [message for message in chat.messages[place:] if message.keeps_place]
    if learned.is_start and (told := _before([*chat.messages[:place], *late])):
        argument["previousMessages"] = [schema.Context(told)]
    invocation = {
        "arguments": [argument],
        "invocationId": new_uuid(call.new_id),
        "target": "chat",
        "type": 4,
    }
    return msgspec.json.encode(invocation).decode() + RECORD_END


def _before(messages: list[Message]) -> str:
    """Instructions and earlier turns as one text."""
    said = [(message.role, message.text()) for message in messages]
    return "\n\n".join(f"[{role}]\n{text}" for role, text in said if text)
