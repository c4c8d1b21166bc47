"""The shapes of ChatGPT web's backend. Unknown members are ignored: the site changes every week.

Source: public clients and one recorded stream of chatgpt.com; nothing of it is documented.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

# What comes down.


class Author(Struct, frozen=True):
    """Who a message is from: user, assistant, system or tool."""

    role: str = ""
    name: str | None = None


class Thought(Struct, frozen=True):
    """One step of thinking."""

    summary: str | None = None
    content: str | None = None


class Content(Struct, frozen=True):
    """A message's content."""

    content_type: str = ""
    parts: list[Any] | None = None  # text, or an object such as an asset pointer
    text: str | None = None
    thoughts: list[Thought] | None = None


class FinishDetails(Struct, frozen=True):
    """How a message ended."""

    type: str | None = None


class Reference(Struct):
    """What a marker in the text stands for."""

    matched_text: str | None = None
    alt: str | None = None
    url: str | None = None
    title: str | None = None
    name: str | None = None
    items: list["Reference"] | None = None


class Metadata(Struct, frozen=True):
    """What a message's texts do not say."""

    is_visually_hidden_from_conversation: bool | None = None
    parent_id: str | None = None
    model_slug: str | None = None
    resolved_model_slug: str | None = None
    finish_details: FinishDetails | None = None
    content_references: list[Any] | None = None
    initial_text: Any = None  # only messages that show thinking have it
    aggregate_result: Any = None


class WebMessage(Struct, frozen=True):
    """A message, whole so far."""

    id: str = ""
    author: Author = Author()
    content: Content = Content()
    status: str = ""
    end_turn: bool | None = None
    weight: float | None = None
    metadata: Metadata = Metadata()
    recipient: str | None = "all"
    channel: str | None = None


class Moderation(Struct):
    """The outcome of moderation."""

    blocked: bool | None = None
    flagged: bool | None = None


class Record(Struct):
    """Any one event: a delta has `v`, a snapshot `message`, a control event `type`."""

    v: Any = UNSET
    p: str | UnsetType = UNSET
    o: str | UnsetType = UNSET
    c: int | UnsetType = UNSET
    message: Any = UNSET
    type: str | None = None
    conversation_id: str | None = None
    error: Any = None
    error_code: str | None = None
    moderation_response: Moderation | None = None


class TextPiece(Struct, forbid_unknown_fields=True):
    """The commonest event of all: nothing but a piece of text."""

    v: str


class Root(Struct):
    """What stands at the top of a snapshot, whichever encoding brought it."""

    message: WebMessage | None = None
    conversation_id: str | None = None
    error: Any = None
    error_code: str | None = None


class Elsewhere(Struct):
    """The answer goes on at a websocket."""

    wss_url: str = ""
    conversation_id: str | None = None
    response_id: str | None = None


class Frame(Struct):
    """One websocket message, wrapped (`data`) or bare (`body`)."""

    type: str | None = None
    sequenceId: int | None = None
    data: Any = None
    body: str | None = None
    conversation_id: str | None = None
    response_id: str | None = None


class FrameData(Struct):
    """The wrapped part of a websocket message; `body` is SSE in base64."""

    body: str | None = None
    conversation_id: str | None = None
    response_id: str | None = None


class Node(Struct):
    """A conversation's last message."""

    current_node: str | None = None


class UploadPlace(Struct):
    """Where to put a file, and its id."""

    file_id: str = ""
    upload_url: str = ""


class SignedIn(Struct):
    """The session; without a token it is signed out."""

    accessToken: str | None = None


class WebModel(Struct):
    """One entry of the list of models."""

    slug: str = ""
    title: str | None = None


class WebModels(Struct):
    """The models that the session may use."""

    models: list[WebModel] = []


# What the caller's `openai` member says.


class Conversation(Struct):
    """`openai.conversation`: where a conversation goes on."""

    conversation_id: str | None = None
    index: str | None = None
    parent_message_id: str | None = None
    last_message_id: str | None = None
    device_id: str | None = None  # of a conversation without an account


class OpenAIMember(Struct):
    """The `openai` member of a chat request."""

    conversation: Conversation | None = None
    # What the gateway hands out stands at the top; accepted where it is sent back like that.
    conversation_id: str | None = None
    index: str | None = None
    parent_message_id: str | None = None
    last_message_id: str | None = None
    device_id: str | None = None
    message_id: str | None = None
    arkose_token: str | None = None

    def state(self) -> Conversation:
        """One conversation from either form; the named one wins member by member."""
        named = self.conversation or Conversation()
        return Conversation(
            named.conversation_id or self.conversation_id or None,
            named.index or self.index or None,
            named.parent_message_id or self.parent_message_id or None,
            named.last_message_id or self.last_message_id or None,
            named.device_id or self.device_id or None,
        )


# What a native question must have.


class NativeContent(Struct):
    """A native message's content."""

    content_type: str
    parts: list[Any]


class NativeAuthor(Struct):
    """A native message's author."""

    role: str


class NativeMessage(Struct):
    """One message of a native body."""

    id: str
    author: NativeAuthor
    content: NativeContent


class NativeAsk(Struct):
    """What a native body must have."""

    messages: list[NativeMessage]
    parent_message_id: str
    model: str
    conversation_id: str | None = None
    arkose_token: str | None = None
