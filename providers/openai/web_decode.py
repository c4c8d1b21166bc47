"""Decodes ChatGPT web's answers, whose events come in two encodings and three framings.

    SSE of snapshots      each event repeats the whole message so far
    SSE of deltas (v1)    JSON patches on such a message; path, operation and channel stick
    JSON with `wss_url`   the SSE comes in pieces over a websocket, base64 inside JSON

The server picks, and mixes. A delta is applied to its message, which is then read as a snapshot;
only the appending of plain text, nine of ten events, takes a shorter way.
"""

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
    Piece,
    Reasoning,
    Session,
    Started,
    Text,
    Unknown,
    Usage,
)
from app.wire.framing import MAX_RECORD_BYTES, SSEParser
from providers.openai import web_errors
from providers.openai.web_frames import AnswerFrames
from providers.openai.web_markers import Markers
from providers.openai.web_patches import PATCH_ERRORS, apply
from providers.openai.web_schema import (
    Record,
    Root,
    TextPiece,
    WebMessage,
)

_TEXT_PATH = "/message/content/parts/0"
_OF_PICTURES = ("multimodal_text", "execution_output")  # of a tool's messages

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

# In every framing's first messages, whatever stands around it; texts have their quotes escaped.
_CONVERSATION_ID = re.compile(rb'"conversation_id": ?"([0-9A-Za-z-]{1,128})"')

_record = msgspec.json.Decoder(Record)
_piece = msgspec.json.Decoder(TextPiece)


class _Told:
    """What of one message was sent to the caller."""

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
        """The new part of a snapshot. Text that was rewritten is not sent again."""
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


class OwnStream:
    """Passes the answer on unchanged, for a caller who uses the site's own protocol.

    Only the websocket framing is undone: its pieces are the SSE that the others have at once.
    """

    def __init__(self, frames: AnswerFrames, max_bytes: int = MAX_RECORD_BYTES) -> None:
        self._frames = frames
        self._records = SSEParser(max_bytes)
        self._done = self._is_known = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Decodes the next bytes of the body; any split gives the same events."""
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
        """Raises GatewayError 502 when the answer was not whole."""
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
        self._reason = ""  # how it ended; told at the end of the stream, which may yet block it
        self._finished = False
        self._rested = False  # the last shown message is whole, though it may not be the last
        self._done = False
        self._handed_off = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Decodes the next bytes of the body; any split gives the same events.

        A generator: events before an error in the same read are given first.
        """
        for piece in (data,) if self._frames.is_plain else self._frames.feed(data):
            if not isinstance(piece, bytes):
                yield piece
                continue
            for _, record in self._records.feed(piece):
                # The hot path: a bare piece of text, to be appended where the last one was.
                if self._hot is not None and record.startswith(b'{"v": "') and self._append(record):
                    if self._visible:
                        yield from self._text(self._hot[1], self._visible)
                else:
                    yield from self._one(record)
        if self._done and self._frames.on_websocket:
            yield End()

    def _append(self, record: bytes) -> bool:
        """Reads `{"v": "text"}` and leaves its visible text in `_visible`."""
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
        """Raises GatewayError 502 when the answer was not whole."""
        self._frames.finish()
        for _, record in self._records.finish():
            yield from self._one(record)
        if self._reason:
            yield from self._conclude()
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
            self._reason = "stop"
            yield from self._conclude()
            return
        if self._done:
            raise bad_response("chatgpt.com's answer ended without a final message.")
        raise upstream_cut("chatgpt.com's answer ended in the middle")

    def _one(self, data: bytes) -> Iterator[Event]:
        self._hot = None
        data = data.strip()  # padded with blanks to a multiple of eight
        if data == b"[DONE]":
            self._done = True
            if self._reason:
                yield from self._conclude()
            return
        if data[:1] != b"{":
            return  # the announcement of an encoding
        if self._reason == "content_filter":
            return  # nothing more of it is the caller's
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
            self._reason = "content_filter"
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
        except PATCH_ERRORS:
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
        if seen.error is not None or seen.error_code:
            raise web_errors.in_stream(seen.error or "", seen.error_code)
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
        if tree is not None and told.begun and _is_plain(root) and told.text() == _text(message):
            tree.told = told  # a text that was rewritten goes the long way until it is in step

    def _take(self, message: WebMessage) -> _Told | None:
        """Decides, when a message first appears, whether it is text, thinking, or not shown."""
        role, content = message.author.role, message.content
        if message.id in self._own_ids:
            self._own_seen = True
        if message.metadata.is_visually_hidden_from_conversation:
            return None
        if role == "tool":
            if content.content_type in _OF_PICTURES and _pointers(message):
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
            self._reason = self._reason or "length"
        elif message.end_turn and message.author.role == "assistant":
            details = message.metadata.finish_details
            cut = details is not None and details.type == "max_tokens"
            self._reason = self._reason or ("length" if cut else "stop")

    def _conclude(self) -> Iterator[Event]:
        if self._finished:
            return
        self._finished = True
        if not self._started:
            self._started = True
            yield Started("", self._model)
        # The site counts no tokens: four characters each is the usual estimate.
        yield Usage(-(-self._prompt_size // 4), -(-self._size // 4), is_estimated=True)
        yield Finish(self._reason)


def _text(message: WebMessage) -> str:
    content = message.content
    if content.content_type == "thoughts":
        return "\n\n".join(
            "\n".join(part for part in (thought.summary, thought.content) if part)
            for thought in content.thoughts or []
        )
    if content.content_type == "execution_output":
        return ""  # of such only the pictures are shown
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
