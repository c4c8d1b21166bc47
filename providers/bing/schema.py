"""The shapes of Bing chat: conversations, the picture upload, the hub's JSON records.

The protocol was never published; shapes are those of recorded frames and of several independent
clients. Everything is optional: failing items lack most members, unknown ones are ignored.
"""

from typing import Any

from msgspec import Struct, field

# -- the gateway's own member `bing` of a chat request and of every chunk


class Conversation(Struct, rename="camel", omit_defaults=True):
    """What a caller needs to go on with a conversation; `image_url` is the turn's picture."""

    conversation_id: str = ""
    client_id: str = ""
    signature: str = ""
    trace_id: str = ""
    image_url: str = ""


class BingMember(Struct, rename="camel"):
    """The `bing` member of a chat request. `image_base64` is a JPEG."""

    conversation: Conversation | None = None
    image_base64: str = ""


# -- HTTP


class Result(Struct):
    """The outcome of a request or a turn; `value` is "Success" or the name of an error."""

    value: str | None = ""
    message: str | None = None
    error: str | None = None


class Created(Struct, rename="camel"):
    """The reply to the request that creates a conversation."""

    conversation_id: str | None = ""
    client_id: str | None = ""
    result: Result | None = None


class Uploaded(Struct, rename="camel"):
    """The reply to a picture upload; the processed blob has its faces blurred."""

    blob_id: str | None = ""
    processed_blob_id: str | None = ""


class Participant(Struct):
    """The participant of a conversation: its client id."""

    id: str = ""


class DeleteAsked(Struct, rename="camel"):
    """The body of DELETE /bing/conversation."""

    conversation_id: str = ""
    conversation_signature: str = ""
    participant: Participant = field(default_factory=Participant)


class Delete(Struct, rename="camel"):
    """The body of the request that deletes a conversation."""

    conversation_id: str
    conversation_signature: str
    participant: Participant
    source: str = "cib"
    options_sets: list[str] = field(default_factory=lambda: ["autosave"])


# -- the hub, from us


class UserMessage(Struct, rename="camel", omit_defaults=True):
    """The message of a question, as far as it differs from one question to the next."""

    text: str
    request_id: str
    message_id: str
    timestamp: str
    image_url: str = ""
    original_image_url: str = ""
    location_hints: list[dict[str, Any]] = []


class Context(Struct, rename="camel"):
    """Text the model is told before the question: how clients pass instructions and history."""

    description: str
    author: str = "user"
    context_type: str = "WebPage"
    message_type: str = "Context"
    message_id: str = "discover-web--page-ping-mriduna-----"


# -- the hub, from Bing


class Source(Struct, rename="camel"):
    """A web page that an answer cites."""

    provider_display_name: str | None = ""
    see_more_url: str | None = ""


class HubMessage(Struct, rename="camel"):
    """A message of the hub; `text` is the whole text so far."""

    text: str | None = None
    hidden_text: str | None = None
    spoken_text: str | None = None
    author: str | None = ""
    message_id: str | None = ""
    message_type: str | None = None
    content_type: str | None = None
    content_origin: str | None = None
    source_attributions: list[Source] | None = None

    @property
    def is_answer(self) -> bool:
        """Bing's words to the user; every other type is a note between its parts."""
        return self.author == "bot" and self.message_type in (None, "", "Chat")


class Throttling(Struct):
    """How many turns a conversation has had, and how many it may have."""

    max: int = field(default=0, name="maxNumUserMessagesInConversation")
    used: int = field(default=0, name="numUserMessagesInConversation")


class Update(Struct):
    """One argument of an update record."""

    messages: list[HubMessage] | None = None
    throttling: Throttling | None = None


class Item(Struct, rename="camel"):
    """The final record of a turn."""

    messages: list[HubMessage] | None = None
    first_new_message_index: int | None = None
    throttling: Throttling | None = None
    result: Result | None = None


class Frame(Struct):
    """One record. The answer to the handshake has no type."""

    type: int = 0
    target: str | None = None
    arguments: list[Update] | None = None
    item: Item | None = None
    error: str | None = None
