"""The shapes of Coze's open API (v2 and v3), its error codes, and the Discord bridge's messages.

Source: Coze open API v2 and v3 documentation and the official SDKs' types. Every member is optional
where the recordings leave it out once; unknown members are ignored.
"""

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field

# -- the gateway's own member `coze` of a chat request


class Conversation(Struct):
    """`coze.conversation`. Ids are often typed as bare numbers; they travel as text."""

    type: str = ""
    bot_id: str | int = ""
    conversation_id: str | int = ""
    user: str | int = ""


class HistoryMessage(Struct):
    """One earlier message in Coze's own shape."""

    role: str
    content: str
    type: str = ""
    content_type: str = "text"


class CozeMember(Struct):
    """The `coze` member of a chat request."""

    conversation: Conversation | None = None
    chat_history: list[HistoryMessage] | None = None


# -- v3: POST /v3/chat


class EnterMessage(Struct):
    """One of `additional_messages`."""

    role: str
    type: str
    content: str
    content_type: str = "text"


class ObjectItem(Struct, omit_defaults=True):
    """One item of a message whose content_type is object_string."""

    type: str
    text: str | None = None
    file_id: str | None = None
    file_url: str | None = None


class ChatV3(Struct):
    """The body of POST /v3/chat."""

    bot_id: str
    user_id: str
    additional_messages: list[EnterMessage]
    stream: bool = True
    auto_save_history: bool = True


class CancelChat(Struct):
    """The body of POST /v3/chat/cancel."""

    conversation_id: str
    chat_id: str


class LastError(Struct):
    """Why a chat failed."""

    code: int = 0
    msg: str = ""


class ChatUsage(Struct):
    """Token counts of a chat."""

    token_count: int = 0
    output_count: int = 0
    input_count: int = 0


class ChatObject(Struct):
    """Data of `conversation.chat.*`: its id is the chat's. `code` and `msg`: the bare error."""

    id: str = ""
    conversation_id: str = ""
    status: str = ""
    last_error: LastError | None = None
    usage: ChatUsage | None = None
    code: int = 0
    msg: str = ""


class MessageObject(Struct):
    """Data of `conversation.message.*`: its id is the message's."""

    id: str = ""
    conversation_id: str = ""
    chat_id: str = ""
    type: str = ""
    content: str | None = None
    content_type: str = ""
    reasoning_content: str | None = None


# -- v2: POST /open_api/v2/chat


class ChatV2(Struct):
    """The body of POST /open_api/v2/chat."""

    bot_id: str
    user: str
    query: str
    conversation_id: str
    chat_history: list[HistoryMessage]
    stream: bool = True


class MessageV2(Struct):
    """The message of a v2 event."""

    type: str = ""
    content: str | None = None
    content_type: str = ""


class EventV2(Struct):
    """One event of v2's stream."""

    event: str = ""
    message: MessageV2 | None = None
    index: int = 0
    conversation_id: str = ""
    error_information: dict[str, Any] | None = None
    code: int = 0
    msg: str = ""


# -- errors


class Detail(Struct):
    """`logid` is what Coze's support asks for."""

    logid: str = ""


class ErrorReply(Struct):
    """An error body; the authentication endpoints spell it the second way, old texts the third."""

    code: int | str | None = 0
    msg: str | None = ""
    error_code: int | str | None = 0
    error_message: str | None = ""
    err_code: int | str | None = 0
    err_msg: str | None = ""
    detail: Detail | None = None

    @property
    def number(self) -> int:
        """The error code in whichever member holds one; 0 for none."""
        for code in (self.code, self.error_code, self.err_code):
            if code and str(code).lstrip("-").isdigit():
                return int(code)
        return 0

    @property
    def text(self) -> str:
        """The message that goes with it."""
        return self.msg or self.error_message or self.err_msg or ""


class UploadedFile(Struct):
    """A stored file."""

    id: str = ""


class UploadReply(Struct):
    """The reply to POST /v1/files/upload."""

    code: int = 0
    msg: str = ""
    data: UploadedFile | None = None
    detail: Detail | None = field(default=None)


class Meaning(Struct, frozen=True):
    """The gateway's error for one of Coze's error codes."""

    status: int
    says: str
    code: str = ""  # "": coze_<number>
    type: str = ""  # "": by the status
    retry: bool = True  # False: SDKs are told not to repeat the request by themselves


ERRORS: dict[int, Meaning] = {
    4000: Meaning(400, "a parameter is wrong"),
    4001: Meaning(404, "the chat does not exist or is not yours"),
    4002: Meaning(
        404, "the conversation does not exist or is not yours; leave conversation_id out"
    ),
    4003: Meaning(400, "too much meta_data"),
    4004: Meaning(400, "too many messages; send fewer or continue a conversation"),
    4005: Meaning(404, "the message does not exist or is not yours"),
    4006: Meaning(404, "the bot does not exist or is not yours"),
    4007: Meaning(400, "auto_save_history is needed"),
    4008: Meaning(429, "the bot's daily use is exhausted", type="insufficient_quota", retry=False),
    4009: Meaning(503, "Coze is busy; try again"),
    4010: Meaning(400, "the prompt is too long for the bot", code="context_length_exceeded"),
    4011: Meaning(402, "no tokens are left", "insufficient_quota", "insufficient_quota", False),
    4012: Meaning(502, "the bot's model no longer exists"),
    4013: Meaning(502, "the bot's model failed"),
    4014: Meaning(400, "Coze refuses to answer this question", code="content_filter"),
    4015: Meaning(400, "the bot is not published to the API channel"),
    # 400 and not 429: no other key can help, and no key is to blame.
    4016: Meaning(400, "the conversation still has a running chat; wait for its end"),
    4019: Meaning(429, "the account's balance is used up", type="insufficient_quota", retry=False),
    4020: Meaning(429, "too many requests per minute"),
    4021: Meaning(400, "the bot's workflow is not configured"),
    4022: Meaning(429, "the bot's model is in arrears", type="insufficient_quota", retry=False),
    4100: Meaning(401, "the access token is invalid"),
    4101: Meaning(403, "the access token has no permission for this bot"),
    4102: Meaning(403, "Coze's risk control refuses the request"),
    4104: Meaning(400, "the chat cannot be cancelled now"),
    4200: Meaning(404, "the resource does not exist"),
    4300: Meaning(400, "the file was refused"),
    4301: Meaning(400, "the file was refused"),
    4302: Meaning(400, "the file was refused"),
    4303: Meaning(400, "the file was refused"),
    4304: Meaning(400, "the file was refused"),
    5000: Meaning(502, "Coze failed"),
    700012006: Meaning(401, "the access token is invalid"),
}

# -- Discord's messages, as far as a Coze bot's answers need them


class Author(Struct):
    """A user, or a message of which only the id matters."""

    id: str = ""


class Reference(Struct):
    """The message that another one answers."""

    message_id: str | None = None


class EmbedImage(Struct):
    """An embed's image."""

    url: str | None = None


class Embed(Struct):
    """An embed of a message."""

    type: str | None = None
    title: str | None = None
    url: str | None = None
    description: str | None = None
    image: EmbedImage | None = None


class Attachment(Struct):
    """A file of a message."""

    url: str | None = None
    proxy_url: str | None = None


class DiscordMessage(Struct):
    """Of MESSAGE_CREATE, MESSAGE_UPDATE and the REST answers. UNSET: left out, so unchanged."""

    id: str
    channel_id: str = ""
    author: Author | None = None
    content: str | UnsetType = UNSET
    embeds: list[Embed] | UnsetType = UNSET
    attachments: list[Attachment] | UnsetType = UNSET
    components: list[Any] | UnsetType = UNSET
    message_reference: Reference | None = None
    referenced_message: Author | None = None  # only its id is of interest


class Dispatch(Struct):
    """A gateway payload; `d` is read when `t` is one of ours."""

    t: str | None = None
    d: Raw = Raw(b"null")


class DiscordError(Struct):
    """The body of Discord's refusals; `retry_after` is in seconds."""

    code: int = 0
    message: str = ""
    retry_after: float | None = None


# -- between the workers and the bridge


class BridgeFile(Struct):
    """A file to upload, in base64."""

    name: str
    media_type: str
    data: str


class BridgeRequest(Struct):
    """A question for the bridge to post."""

    text: str
    bot_id: str = ""  # "": any
    stream: bool = False
    files: list[BridgeFile] = []


class Asked(Struct):
    """The question was posted, and to whom."""

    bot_id: str


class ReplyState(Struct):
    """All that one reply says by now."""

    id: str
    text: str = ""
    extra: list[str] = []  # pictures and embedded text that do not stand in the text
    is_done: bool = False


class Failure(Struct):
    """Why there is no answer, or no whole one."""

    status: int
    message: str
    code: str
    retry_after: float | None = None
