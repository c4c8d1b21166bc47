"""One Discord channel as data: what is posted, by whom, and which event answers which question.

Pure: events, replies and the time come in, decisions go out. The bridge process owns one of each.
A reply belongs to the question that its `message_reference` names, whenever it arrives.
Source: Discord's API documentation; users' reports of what Coze bots say at a used-up quota.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct, UnsetType

from app.config.schema import CozeDiscord
from app.wire.errors import GatewayError
from app.wire.multipart import form_data
from app.wire.retry_after import retry_after_header
from app.wire.upstream import UpstreamReply, UpstreamRequest, join_url
from providers.coze import schema
from providers.coze.errors import NO_RETRY

MAX_PROMPT = 1888  # code points with the mention, of the 2000 that Discord takes
EARLY_SECONDS = 60.0
MAX_EARLY = 1000
DEAD_SECONDS = 3600.0
QUOTA_SECONDS = 3600.0
BAN_SECONDS = 600.0

_message_decoder = msgspec.json.Decoder(schema.DiscordMessage)
_error_decoder = msgspec.json.Decoder(schema.DiscordError)

# -- answers that are errors: a used-up quota, or a failure, in plain words


class Spent(Struct, frozen=True):
    """The beginning of an answer that is an error in plain words, and what it means."""

    begins: str
    status: int
    cools: str  # what must cool down: "sender", "bot" or ""


_SPENT = (
    Spent("You have exceeded the daily limit for sending messages to the bot", 429, "sender"),
    Spent("Hi there! You've used up your free chat credits", 429, "sender"),
    Spent("Hi there! You've used up your credits for today", 429, "sender"),
    Spent(
        "The bot's usage is covered by the developer, but due to the developer's message credits "
        "being exhausted",
        429,
        "bot",
    ),
    Spent("Something wrong occurs, please retry", 502, ""),
    Spent("Some error occurred. Please try again", 502, ""),
    Spent("We've detected unusual traffic from your network", 503, ""),
    Spent("There are too many users now", 503, ""),
)


def spent(text: str) -> Spent | None:
    """The error that the beginning of an answer stands for; None for a real answer."""
    return next((each for each in _SPENT if text.startswith(each.begins)), None)


def spent_failure(found: Spent, text: str) -> schema.Failure:
    """The failure to report for such an answer; `text` is the whole of it."""
    is_quota = found.status == 429
    return schema.Failure(
        found.status,
        f"The Coze bot says: {text[:300]}",
        "coze_quota" if is_quota else "upstream_error",
        QUOTA_SECONDS if is_quota else None,
    )


# -- replies to questions


class Question(Struct, eq=False):
    """A posted question without a whole answer yet; `replies` in order of arrival."""

    id: str
    replies: dict[str, schema.ReplyState] = {}
    fresh: list[schema.ReplyState] = []  # not yet handed on
    wake: Callable[[], None] = lambda: None


class Channel:
    """The open questions, and replies that came before their question was known."""

    def __init__(self, channel_id: str, bots: Sequence[str]) -> None:
        self._channel_id, self._bots = channel_id, frozenset(bots)
        self._questions: dict[str, Question] = {}
        self._by_reply: dict[str, str] = {}  # partial updates name only the reply
        self._early: dict[str, tuple[float, Question]] = {}  # in order of arrival

    @property
    def open(self) -> list[str]:
        """The ids of the open questions."""
        return list(self._questions)

    def expect(self, question_id: str) -> Question:
        """Opens a question: its replies are collected, those that came early included."""
        early = self._early.pop(question_id, None)
        question = early[1] if early is not None else Question(question_id)
        question.fresh = list(question.replies.values())
        self._questions[question_id] = question
        return question

    def forget(self, question: Question) -> None:
        """Closes a question."""
        self._questions.pop(question.id, None)
        self._forget_replies(question)

    def _forget_replies(self, question: Question) -> None:
        for reply_id in question.replies:
            self._by_reply.pop(reply_id, None)

    def hear(self, data: bytes | msgspec.Raw, now: float) -> None:
        """Takes a message, as JSON, that was created, updated or read again."""
        try:
            message = _message_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # not the shape of any Coze bot's reply
        if message.channel_id not in ("", self._channel_id):
            return
        known = self._by_reply.get(message.id)
        # An update may leave out its author; a new message never does.
        if message.author is None:
            if known is None:
                return
        elif message.author.id not in self._bots:
            return
        about = known or _question_of(message)
        if about is None:
            return
        question = self._questions.get(about) or self._unknown(about, now)
        self._take(question, message)
        if question.id not in self._questions:
            question.fresh.clear()

    def _take(self, question: Question, message: schema.DiscordMessage) -> None:
        before = question.replies.get(message.id)
        after = updated(before or schema.ReplyState(message.id), message)
        if after == before:
            return
        question.replies[message.id] = after
        self._by_reply[message.id] = question.id
        question.fresh.append(after)
        question.wake()

    def _unknown(self, about: str, now: float) -> Question:
        """A place for replies to a message that is still being posted, or is not one of ours."""
        early = self._early
        while early:
            id, (since, question) = next(iter(early.items()))
            if len(early) < MAX_EARLY and since > now - EARLY_SECONDS:
                break
            del early[id]
            self._forget_replies(question)
        return early.setdefault(about, (now, Question(about)))[1]


def _question_of(message: schema.DiscordMessage) -> str | None:
    """The message that this one replies to. The reference is always there, the copy not."""
    if message.message_reference is not None and message.message_reference.message_id:
        return message.message_reference.message_id
    return message.referenced_message.id if message.referenced_message is not None else None


def updated(state: schema.ReplyState, message: schema.DiscordMessage) -> schema.ReplyState:
    """The reply after an event; what the event leaves out is unchanged."""
    text, extra, is_done = state.text, state.extra, state.is_done
    if not isinstance(message.content, UnsetType):
        text = message.content or text  # without the content intent it comes empty
    if not isinstance(message.embeds, UnsetType) or not isinstance(message.attachments, UnsetType):
        extra = extra + [each for each in _extra(message, text) if each not in extra]
    if not isinstance(message.components, UnsetType):
        is_done = is_done or bool(message.components)
    return schema.ReplyState(state.id, text, extra, is_done)


def _extra(message: schema.DiscordMessage, text: str) -> list[str]:
    """Pictures and rich embeds as markdown, unless the text has them already."""
    out: list[str] = []
    for embed in [] if isinstance(message.embeds, UnsetType) else message.embeds:
        # Other types are Discord's own previews of addresses that stand in the text.
        if embed.type in (None, "rich"):
            title = f"[{embed.title}]({embed.url})" if embed.title and embed.url else embed.title
            out += [each for each in (title, embed.description) if each and each not in text]
        if embed.image is not None and embed.image.url and embed.image.url not in text:
            out.append(_picture(embed.image.url))
    for attachment in [] if isinstance(message.attachments, UnsetType) else message.attachments:
        url = attachment.proxy_url or attachment.url
        if url and url not in text and (attachment.url or url) not in text:
            out.append(_picture(url))
    return out


def _picture(url: str) -> str:
    return f"{url}\n![Image]({url})"


# -- posting


def prompt(text: str, bot_id: str) -> str:
    """The message to post. Raises GatewayError 400 when it is too long for Discord."""
    content = f"{text} \n <@{bot_id}>"
    if len(content) > MAX_PROMPT:
        raise GatewayError(
            400,
            f"The question is too long for Discord: {len(content)} of {MAX_PROMPT} characters, the "
            "mention of the bot and the addresses of pictures included.",
            param="messages",
            code="context_length_exceeded",
        )
    return content


def post_request(
    config: CozeDiscord, proxy: str | None, token: str, text: str, bot_id: str, nonce: str
) -> UpstreamRequest:
    """Posts the question as a user. Repeating it with the same nonce gives the same message."""
    body = {
        "content": prompt(text, bot_id),
        "nonce": nonce,
        "enforce_nonce": True,
        # Whatever the text mentions, only the bot is called.
        "allowed_mentions": {"parse": [], "users": [bot_id]},
    }
    page = f"/channels/{config.guild_id}/{config.channel_id}"
    return UpstreamRequest(
        method="POST",
        url=_messages_url(config),
        headers=[
            ("authorization", token),
            ("content-type", "application/json"),
            ("origin", "https://discord.com"),
            ("referer", "https://discord.com" + page),
        ],
        body=msgspec.json.encode(body),
        via="browser",
        proxy=proxy,
    )


def upload_request(
    config: CozeDiscord, proxy: str | None, file: schema.BridgeFile, data: bytes, boundary: str
) -> UpstreamRequest:
    """Posts a file as a message of the bridge's own bot; its URL goes into the question."""
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "_" for c in file.name)
    media_type = "".join(c for c in file.media_type if c.isprintable() and c.isascii())
    payload = {"attachments": [{"id": 0, "filename": name[-100:] or "file"}]}
    fields = [
        ('name="payload_json"', "application/json", msgspec.json.encode(payload)),
        (f'name="files[0]"; filename="{name[-100:] or "file"}"', media_type, data),
    ]
    return UpstreamRequest(
        method="POST",
        url=_messages_url(config),
        headers=[
            ("authorization", f"Bot {config.chat_bot_token}"),
            ("content-type", f"multipart/form-data; boundary={boundary}"),
            ("user-agent", "DiscordBot (any-proxy, 1)"),
        ],
        body=form_data(boundary, fields),
        proxy=proxy,
    )


def _messages_url(config: CozeDiscord) -> str:
    return join_url(config.api_url, f"/api/v10/channels/{config.channel_id}/messages")


def read_posted(reply: UpstreamReply) -> schema.DiscordMessage:
    """The message that was posted. Raises GatewayError for a refusal."""
    if 200 <= reply.status < 300:
        try:
            return _message_decoder.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    raise post_error(reply.status, _error_of(reply))


def _error_of(reply: UpstreamReply) -> schema.DiscordError:
    try:
        return _error_decoder.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return schema.DiscordError()


# Discord's own codes: a message that is empty, too long or refused by AutoMod is the caller's.
_CALLERS_FAULT = (50006, 50035, 200000)
_SLOW_DOWN = (20016, 20028)  # slow mode; too much written in the channel


def post_error(status: int, error: schema.DiscordError) -> GatewayError:
    """The error for a message that Discord refused; nothing was posted."""
    said = f"Discord refused the question (HTTP {status}, code {error.code}: {error.message})"
    if status == 429 or error.code in _SLOW_DOWN:
        return GatewayError(
            429,
            f"{said}.",
            code="rate_limited",
            retry_after=error.retry_after,
            outcome="upstream_error",
        )
    if error.code in _CALLERS_FAULT:
        return GatewayError(
            400, f"{said}.", param="messages", code="discord_refused", outcome="upstream_error"
        )
    what = "; its operator has to look at the channel, its rights and coze.discord.auth"
    return GatewayError(
        502,
        said + ("." if status >= 500 else what + "."),
        type="upstream_error",
        code="discord_refused",
        outcome="upstream_error",
    )


class Sender(Struct, eq=False):
    """An account that may post.

    Event-loop seconds: `free_at` by Discord's rate limits, `cooldown_until` after its refusals.
    """

    token: str
    free_at: float = 0.0
    cooldown_until: float = 0.0

    def __repr__(self) -> str:  # the token must not reach a log
        return f"Sender(free_at={self.free_at}, cooldown_until={self.cooldown_until})"


class Senders:
    """Chooses accounts that may post now; limits and cooldowns are per account."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.all = [Sender(token) for token in tokens]

    def usable(self, now: float) -> list[Sender]:
        """The accounts to try: the free ones, else the one that is free first.

        Raises GatewayError 503 when none may.
        """
        alive = [sender for sender in self.all if sender.cooldown_until <= now]
        if not alive:
            what = (
                "all tokens of coze.discord.auth are refused or have used up their credits"
                if self.all
                else "configure coze.discord.auth"
            )
            first = min((sender.cooldown_until for sender in self.all), default=now)
            raise GatewayError(
                503,
                f"No account can post to Discord now: {what}.",
                code="no_sender",
                retry_after=first - now or None,
                headers=NO_RETRY,
            )
        free = [sender for sender in alive if sender.free_at <= now]
        return free or [min(alive, key=lambda sender: sender.free_at)]

    def learn(self, sender: Sender, reply: UpstreamReply, now: float) -> bool:
        """Updates the account's limits from a reply; True when the question may be posted again.

        After a 401 or a locked account (40002) the token is left alone: too many refused requests
        block the whole address.
        """
        headers = reply.headers
        if reply.status == 429:
            said = _error_of(reply)
            seconds = said.retry_after or retry_after_header(headers)
            if seconds is None:  # no limit but a page: the whole address is blocked
                for each in self.all:
                    each.free_at = max(each.free_at, now + BAN_SECONDS)
                return False
            sender.free_at = max(sender.free_at, now + seconds)
            return True
        if reply.status == 401 or _error_of(reply).code in (40001, 40002):
            sender.cooldown_until = now + DEAD_SECONDS
            return True  # by another account
        if _number(headers, "x-ratelimit-remaining") == 0:
            sender.free_at = now + (_number(headers, "x-ratelimit-reset-after") or 0.0)
        return reply.status >= 500


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
