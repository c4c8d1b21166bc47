"""ChatGPT web's answers, decoded: three framings, one meaning.

    SSE of snapshots      each event repeats the whole message so far
    SSE of deltas (v1)    JSON patches on such a message; path, operation and channel stick
    JSON with `wss_url`   the SSE comes in pieces over a websocket, base64 inside JSON

The server picks, and mixes. A delta is applied to its message, which is then read as a snapshot;
only the appending of plain text, nine of ten events, takes a shorter way.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    End,
    Event,
    Finish,
    Follow,
    Piece,
    Reasoning,
    Reply,
    Session,
    Started,
    Text,
    Unknown,
    Usage,
)
from app.wire.framing import MAX_RECORD_BYTES, JsonArrayParser, SSEParser
from app.wire.surrogates import mend
from app.wire.upstream import UpstreamRequest
from providers.openai import web_errors
from providers.openai.web_schema import (
    Elsewhere,
    Frame,
    FrameData,
    Record,
    Reference,
    Root,
    TextPiece,
    WebMessage,
)

ACK_EVERY = 80  # the service stops after about 1000 frames without one
SUBPROTOCOL = "json.reliable.webpubsub.azure.v1"
_TEXT_PATH = "/message/content/parts/0"
_MAX_HELD = 8192  # a marker longer than that is none

_KNOWN_TYPES = frozenset(
    (
        "title_generation",
        "moderation",
        "conversation_detail_metadata",
        "message_marker",
        "server_ste_metadata",
        "resume_conversation_token",
        "input_message",
        "message_stream_complete",
        "url_moderation",
        "stream_handoff",
    )
)
_MARKERS = re.compile("[\ue200-\ue206]")
_STRAY = re.compile("[\ue201-\ue206]")

# In every framing's first messages, whatever stands around it; texts have their quotes escaped.
_CONVERSATION_ID = re.compile(rb'"conversation_id": ?"([0-9A-Za-z-]{1,128})"')

_record = msgspec.json.Decoder(Record)
_piece = msgspec.json.Decoder(TextPiece)
_elsewhere = msgspec.json.Decoder(Elsewhere)
_frame = msgspec.json.Decoder(Frame)
_PATCH_FAULTS = (KeyError, IndexError, TypeError, ValueError, AttributeError)


class Markers:
    """Private-use characters around citations: held back until whole, then replaced or dropped."""

    def __init__(self) -> None:
        self._held = ""
        self.unresolved: list[str] = []

    def feed(self, text: str, references: list[Any]) -> str:
        if not self._held and not _MARKERS.search(text):
            return text
        text = self._held + text
        self._held = ""
        out: list[str] = []
        while True:
            start = text.find("\ue200")
            if start < 0:
                out.append(text)
                break
            out.append(text[:start])
            end = text.find("\ue201", start)
            if end < 0:
                rest = text[start:]
                if len(rest) <= _MAX_HELD:
                    self._held = rest
                else:
                    out.append(rest[1:])
                break
            span = text[start : end + 1]
            meaning = _meaning(span, references)
            if meaning is None:
                self.unresolved.append(span)
            else:
                out.append(meaning)
            text = text[end + 1 :]
        return _STRAY.sub("", "".join(out))

    def late(self, references: list[Any]) -> str:
        """What became known only after its place in the text was told."""
        found = [_meaning(span, references) for span in self.unresolved]
        self.unresolved.clear()
        return " ".join(dict.fromkeys(text for text in found if text))


def _meaning(span: str, references: list[Any]) -> str | None:
    """The text in place of a marker; None while nobody has said what it stands for."""
    kind, _, rest = span[1:-1].partition("\ue202")
    if kind == "entity":  # ["company", "OpenAI", ...]: the second is what is read
        try:
            return str(msgspec.json.decode(rest, type=list[Any])[1])
        except (msgspec.DecodeError, IndexError):
            return ""
    for raw in references:
        try:
            reference = msgspec.convert(raw, Reference)
        except msgspec.ValidationError:
            continue
        if reference.matched_text == span:
            return reference.alt or _links(reference)
    return None


def _links(reference: Reference) -> str:
    found = [item for item in [reference, *(reference.items or [])] if item.url]
    return " ".join(f"[{item.title or item.url}]({item.url})" for item in found) or (
        reference.name or ""
    )


class _Told:
    """What of one message the caller has been told."""

    def __init__(self, thinking: bool) -> None:
        self.thinking = thinking
        self.markers = Markers()
        self.images: set[str] = set()
        self.begun = False  # the caller knows of this message
        self._pieces: list[str] = []

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    def text(self) -> str:
        if len(self._pieces) != 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def news(self, text: str) -> str:
        """A snapshot's new part. What was rewritten stays as it was told: never told again."""
        told = self.text()
        if not text.startswith(told) and len(text) <= len(told):
            return ""
        self._pieces = [text]
        return text[len(told) :]


class _Tree:
    """One channel of the delta encoding: the last object put at its root."""

    def __init__(self) -> None:
        self.root: Any = None
        self.told: _Told | None = None  # set while plain text may be appended the short way
        self.pending: list[str] = []  # such text that the tree has not got yet

    def settle(self) -> None:
        if self.pending:
            self.root["message"]["content"]["parts"][0] += "".join(self.pending)
            self.pending.clear()


def apply(root: Any, path: str, operation: str, value: Any) -> Any:
    """One patch; the root afterwards. Raises KeyError and its kin where it does not fit."""
    if operation == "patch":
        for part in value:
            root = apply(root, part.get("p", ""), part.get("o", ""), part.get("v"))
        return root
    if path == "":
        return _changed(root, operation, value) if operation != "remove" else None
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    holder = root
    for part in way:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    if isinstance(holder, list):
        at = len(holder) if last == "-" else int(last)
        if operation == "add":
            holder.insert(at, value)
        elif operation == "remove":
            del holder[at]
        elif at == len(holder) and operation in ("replace", "append"):
            holder.append(value)
        else:
            holder[at] = _changed(holder[at], operation, value)
    elif operation == "remove":
        del holder[last]
    else:
        holder[last] = _changed(holder.get(last), operation, value)
    return root


def _changed(old: Any, operation: str, value: Any) -> Any:
    match operation:
        case "add" | "replace":
            return value
        case "append":
            if old is None:
                return value
            return {**old, **value} if isinstance(old, dict) else old + value
        case "truncate":
            return old[: int(value)]
    raise ValueError(operation)


class AnswerFrames:
    """The framing's part: whatever comes, SSE records and what the exchange must do.

    Used by the translating decoder and by the one that hands the stream on as it is.
    """

    def __init__(self, origin: str, user_agent: str, proxy: str | None) -> None:
        self._origin, self._user_agent, self._proxy = origin, user_agent, proxy
        self._first = True
        self._json: JsonArrayParser | None = None
        self._elsewhere: Elsewhere | None = None
        self._sequence = 0
        self._acked = 0

    def feed(self, data: bytes) -> Iterator[bytes | Follow | Reply]:
        """SSE bytes, and events for the exchange, in order."""
        if self._elsewhere is not None:
            yield from self._message(data)
            return
        if self._first:
            data = data.lstrip()
            if not data:
                return
            self._first = False
            if data[:1] in (b"{", b"["):
                self._json = JsonArrayParser()
            elif data[:1] == b"<":
                raise web_errors.web_page(data)
        if self._json is None:
            yield data
            return
        for whole in self._json.feed(data):
            yield self._follow(whole)
            return

    def finish(self) -> None:
        if self._first:
            raise upstream_cut("chatgpt.com closed the connection without an answer")
        if self._json is not None and self._elsewhere is None:
            raise bad_response("chatgpt.com's JSON answer ended early.")

    def _follow(self, body: bytes) -> Follow:
        try:
            found = _elsewhere.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise web_errors.in_json(body) from None
        if not found.wss_url.startswith(("wss://", "ws://")):
            raise web_errors.in_json(body)
        self._elsewhere = found
        headers = [
            ("User-Agent", self._user_agent),
            ("Origin", self._origin),
            ("Sec-WebSocket-Protocol", SUBPROTOCOL),
        ]
        return Follow(
            UpstreamRequest(
                method="GET",
                url=found.wss_url,
                headers=headers,
                via="websocket",
                proxy=self._proxy,
            )
        )

    def _message(self, data: bytes) -> Iterator[bytes | Reply]:
        try:
            frame = _frame.decode(mend(data))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_response("chatgpt.com's websocket sent what is no JSON frame.") from None
        if frame.sequenceId is not None:
            self._sequence = max(self._sequence, frame.sequenceId)
            if self._sequence - self._acked >= ACK_EVERY:
                self._acked = self._sequence
                yield Reply(f'{{"type":"sequenceAck","sequenceId":{self._sequence}}}')
        piece: FrameData | Frame = frame
        if isinstance(frame.data, dict):
            try:
                piece = msgspec.convert(frame.data, FrameData)
            except msgspec.ValidationError:
                return
        if not piece.body or not self._is_ours(piece):
            return
        try:
            yield base64.b64decode(piece.body, validate=True)
        except (binascii.Error, ValueError):
            raise bad_response("chatgpt.com's websocket sent broken base64.") from None

    def _is_ours(self, piece: FrameData | Frame) -> bool:
        """Other answers of the same account arrive here too."""
        assert self._elsewhere is not None
        for theirs, ours in (
            (piece.conversation_id, self._elsewhere.conversation_id),
            (piece.response_id, self._elsewhere.response_id),
        ):
            if theirs and ours and theirs != ours:
                return False
        return True

    @property
    def is_plain(self) -> bool:
        """The answer is SSE and nothing else: its bytes need not come through here any more."""
        return not self._first and self._json is None

    @property
    def on_websocket(self) -> bool:
        return self._elsewhere is not None


class OwnStream:
    """The answer as it came, for a caller who speaks the site's own language.

    Only the websocket framing is undone: its pieces are the SSE that the others have at once.
    """

    def __init__(self, frames: AnswerFrames, max_bytes: int = MAX_RECORD_BYTES) -> None:
        self._frames = frames
        self._records = SSEParser(max_bytes)
        self._done = self._is_known = False

    def feed(self, data: bytes) -> Iterator[Event]:
        for piece in self._frames.feed(data):
            if not isinstance(piece, bytes):
                yield piece
                continue
            yield Piece(piece)
            for _, record in self._records.feed(piece):
                self._done = self._done or record.strip() == b"[DONE]"
                if not self._is_known and (found := _CONVERSATION_ID.search(record)):
                    self._is_known = True
                    yield Session({"conversation_id": found[1].decode()})
        if self._done and self._frames.on_websocket:
            yield End()

    def finish(self) -> Iterator[Event]:
        self._frames.finish()
        if not self._done:
            raise upstream_cut("chatgpt.com's answer ended in the middle")
        return iter(())


class WebDecoder:
    """`image_link` turns an asset pointer and a conversation id into an address to show.

    `own_ids` are the ids of the messages that were sent, `parent_id` the one they follow;
    `prompt_size` is how many characters were asked, for the estimate of tokens.
    """

    def __init__(
        self,
        frames: AnswerFrames,
        *,
        image_link: Any,
        model: str,
        own_ids: tuple[str, ...] = (),
        parent_id: str | None = None,
        session: dict[str, Any] | None = None,
        prompt_size: int = 0,
        max_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._frames = frames
        self._records = SSEParser(max_bytes)
        self._image_link = image_link
        self._model = model
        self._own_ids = own_ids
        self._parent_id = parent_id  # None: a new conversation, which has nothing to echo
        self._session = session or {}
        self._own_seen = False
        self._prompt_size, self._size = prompt_size, 0
        self._trees: dict[int, _Tree] = {}
        self._channel, self._path, self._operation = 0, "", "add"
        self._hot: tuple[_Tree, _Told] | None = None
        self._visible = ""
        self._told: dict[str, _Told | None] = {}  # by message id; None: not for the caller
        self._conversation_id = ""
        self._started = False
        self._writer: _Told | None = None  # whose text was told last
        self._finished = False
        self._rested = False  # the last shown message is whole, though it may not be the last
        self._done = False
        self._handed_off = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Event by event: what stands before an error in one read has been given by then."""
        for piece in (data,) if self._frames.is_plain else self._frames.feed(data):
            if not isinstance(piece, bytes):
                yield piece
                continue
            for _, record in self._records.feed(piece):
                # The hot line: a bare piece of text, to be appended where the last one was.
                if self._hot is not None and record.startswith(b'{"v": "') and self._append(record):
                    if self._visible:
                        yield from self._text(self._hot[1], self._visible)
                else:
                    yield from self._one(record)
        if self._done and self._frames.on_websocket:
            yield End()

    def _append(self, record: bytes) -> bool:
        """Takes `{"v": "text"}` and leaves what of it is to be told in `_visible`."""
        assert self._hot is not None
        try:
            piece = _piece.decode(record).v
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False  # has more members than that, or is broken
        tree, told = self._hot
        tree.pending.append(piece)
        told.add(piece)
        self._visible = told.markers.feed(piece, _references(tree.root))
        return True

    def finish(self) -> Iterator[Event]:
        self._frames.finish()
        for _, record in self._records.finish():
            yield from self._one(record)
        if self._finished:
            return
        if self._handed_off:
            raise GatewayError(
                502,
                "chatgpt.com went on with this answer on a channel that the gateway does not "
                "read. Ask again, or with another model.",
                code="upstream_handoff_unsupported",
                outcome="upstream_error",
            )
        if self._rested and self._done:
            yield from self._end("stop")
            return
        if self._done:
            raise bad_response("chatgpt.com's answer ended without a final message.")
        raise upstream_cut("chatgpt.com's answer ended in the middle")

    def _one(self, data: bytes) -> Iterator[Event]:
        self._hot = None
        data = data.strip()  # padded with blanks to a multiple of eight
        if data == b"[DONE]":
            self._done = True
            return
        if data[:1] != b"{":
            return  # the announcement of an encoding
        try:
            record = _record.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield Unknown("unreadable")
            return
        if record.v is not UNSET and record.type is None:
            yield from self._delta(record)
        elif record.message is not UNSET or record.error is not None:
            yield from self._look(
                {
                    "message": None if record.message is UNSET else record.message,
                    "conversation_id": record.conversation_id,
                    "error": record.error,
                    "error_code": record.error_code,
                }
            )
        else:
            yield from self._control(record)

    def _control(self, record: Record) -> Iterator[Event]:
        if record.conversation_id:
            self._conversation_id = record.conversation_id
        moderation = record.moderation_response
        if moderation is not None and moderation.blocked:
            yield from self._end("content_filter")
        elif record.type == "message_stream_complete":
            self._done = True
        elif record.type == "stream_handoff":
            self._handed_off = True
        elif record.type is not None and record.type not in _KNOWN_TYPES:
            yield Unknown(record.type)

    def _delta(self, record: Record) -> Iterator[Event]:
        # Each of the three keeps the value of the event before when it is absent.
        if isinstance(record.c, int):
            self._channel = record.c
        if isinstance(record.p, str):
            self._path = record.p
        if isinstance(record.o, str):
            self._operation = record.o
        tree = self._trees.get(self._channel)
        if tree is None:
            tree = self._trees[self._channel] = _Tree()
        value = record.v
        if (
            tree.told is not None
            and self._operation == "append"
            and self._path == _TEXT_PATH
            and isinstance(value, str)
        ):
            tree.pending.append(value)
            tree.told.add(value)
            if not tree.told.thinking:
                self._hot = tree, tree.told
            yield from self._say(tree.told, value, tree.root)
            return
        tree.settle()
        try:
            tree.root = apply(tree.root, self._path, self._operation, value)
        except _PATCH_FAULTS:
            tree.told = None
            yield Unknown(f"delta:{self._operation[:32]}")
            return
        tree.told = None
        if isinstance(tree.root, dict) and ("message" in tree.root or tree.root.get("error")):
            yield from self._look(tree.root, tree)

    def _look(self, root: dict[str, Any], tree: _Tree | None = None) -> Iterator[Event]:
        try:
            seen = msgspec.convert(root, Root)
        except msgspec.ValidationError:
            yield Unknown("message")
            return
        if seen.error is not None:
            raise web_errors.in_stream(seen.error, seen.error_code)
        if seen.conversation_id:
            self._conversation_id = seen.conversation_id
        message = seen.message
        if message is None:
            return
        told = self._told.get(message.id)
        # A tool's message may still become a picture; any other keeps what it was at first.
        if told is None and (message.id not in self._told or message.author.role == "tool"):
            told = self._told[message.id] = self._take(message)
        if told is None:
            return
        news = told.news(_text(message))
        finished = message.status.startswith("finished")
        if news or finished:
            yield from self._begin(message, told)
            yield from self._say(told, news, root)
        if finished:
            yield from self._at_end(message, told)
        elif message.status != "in_progress" and message.status:
            raise bad_response(f"chatgpt.com gave up in the middle ({message.status[:60]}).")
        if tree is not None and told.begun and _is_plain(root):
            tree.told = told

    def _take(self, message: WebMessage) -> _Told | None:
        """Decides, when a message is first seen, whether and as what it is for the caller."""
        role, content = message.author.role, message.content
        if message.id in self._own_ids:
            self._own_seen = True
        if message.metadata.is_visually_hidden_from_conversation:
            return None
        if role == "tool":
            if content.content_type == "multimodal_text" and _pointers(message):
                return _Told(thinking=False)
            shows_thinking = (
                message.metadata.initial_text is not None
                and content.content_type == "text"
                and message.recipient in (None, "all")
            )
            return _Told(thinking=True) if shows_thinking else None
        if role != "assistant" or message.recipient not in (None, "all"):
            return None
        if self._is_echo(message):
            return None
        if content.content_type == "thoughts":
            return _Told(thinking=True)
        if message.channel not in (None, "final"):
            return None
        if content.content_type in ("text", "multimodal_text"):
            return _Told(thinking=False)
        return None

    def _is_echo(self, message: WebMessage) -> bool:
        """An older answer, repeated at the start of the next turn."""
        if self._parent_id is None:
            return False
        if message.id == self._parent_id:
            return True
        return (
            not self._started
            and not self._own_seen
            and message.status == "finished_successfully"
            and message.metadata.parent_id is not None
            and message.metadata.parent_id not in self._own_ids
        )

    def _begin(self, message: WebMessage, told: _Told) -> Iterator[Event]:
        told.begun = True
        if not told.thinking and message.author.role == "assistant":
            session = {
                **self._session,
                "conversation_id": self._conversation_id,
                "parent_message_id": message.metadata.parent_id or "",
                "last_message_id": message.id,
            }
            if session != self._session:
                self._session = session
                yield Session(session)
        if not self._started:
            self._started = True
            metadata = message.metadata
            yield Started("", metadata.resolved_model_slug or metadata.model_slug or self._model)

    def _say(self, told: _Told, piece: str, root: Any) -> Iterator[Event]:
        if not piece:
            return
        if told.thinking:
            yield Reasoning(piece)
            return
        visible = told.markers.feed(piece, _references(root))
        if visible:
            yield from self._text(told, visible)

    def _text(self, told: _Told, visible: str) -> Iterator[Event]:
        self._size += len(visible)
        if self._writer is not None and self._writer is not told:
            visible = "\n\n" + visible
        self._writer = told
        self._rested = False
        yield Text(visible)

    def _at_end(self, message: WebMessage, told: _Told) -> Iterator[Event]:
        for pointer in _pointers(message):
            if pointer not in told.images:
                told.images.add(pointer)
                address = self._image_link(pointer, self._conversation_id)
                if address:
                    separator = "\n\n" if self._writer is told else ""
                    yield from self._text(told, f"{separator}![image]({address})")
        late = told.markers.late(message.metadata.content_references or [])
        if late:
            yield from self._text(told, "\n\n" + late)
        if told.thinking:
            return
        self._rested = True
        if message.status == "finished_partial_completion":
            yield from self._end("length")
        elif message.end_turn and message.author.role == "assistant":
            details = message.metadata.finish_details
            cut = details is not None and details.type == "max_tokens"
            yield from self._end("length" if cut else "stop")

    def _end(self, reason: str) -> Iterator[Event]:
        if self._finished:
            return
        self._finished = True
        if not self._started:
            self._started = True
            yield Started("", self._model)
        # The site counts no tokens: four characters each is the usual estimate.
        yield Usage(-(-self._prompt_size // 4), -(-self._size // 4))
        yield Finish(reason)


def _text(message: WebMessage) -> str:
    content = message.content
    if content.content_type == "thoughts":
        return "\n\n".join(
            "\n".join(part for part in (thought.summary, thought.content) if part)
            for thought in content.thoughts or []
        )
    if content.parts is None:
        return content.text or ""
    return "".join(part for part in content.parts if isinstance(part, str))


def _is_plain(root: dict[str, Any]) -> bool:
    """One text part and nothing else: then appending to it is appending to the answer."""
    parts = root["message"]["content"].get("parts")
    return isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], str)


def _pointers(message: WebMessage) -> list[str]:
    """The pictures of a message, old code interpreter's included."""
    found = [
        part["asset_pointer"]
        for part in message.content.parts or []
        if isinstance(part, dict) and isinstance(part.get("asset_pointer"), str)
    ]
    result = message.metadata.aggregate_result
    if isinstance(result, dict) and isinstance(result.get("messages"), list):
        found += [
            entry["image_url"]
            for entry in result["messages"]
            if isinstance(entry, dict) and isinstance(entry.get("image_url"), str)
        ]
    return found


def _references(root: Any) -> list[Any]:
    try:
        found = root["message"]["metadata"]["content_references"]
    except (KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []
