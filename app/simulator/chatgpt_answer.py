"""One answer of the simulated ChatGPT website, as snapshots or in delta encoding; no I/O."""

import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from app.simulator.chatgpt_common import JSON, encode
from app.simulator.chatgpt_files import PNG, files
from app.simulator.faults import Fault


class Conversation(Struct):
    """A conversation of one account, with the messages that can be a parent."""

    id: str
    account: str
    current: str = ""
    turns: int = 0
    messages: dict[str, JSON] = {}


class Answer:
    """One answer, in either encoding; creating it adds its message to the conversation."""

    def __init__(
        self,
        made: Conversation,
        question_id: str,
        text: str,
        said: str,
        model: str,
        words: set[str],
        fault: Fault,
    ) -> None:
        self.made, self.question_id, self.text = made, question_id, text
        self.said, self.model, self.words, self.fault = said, model, words, fault
        self.id = str(uuid.uuid4())
        made.current = self.id
        made.messages[self.id] = self.message(parts=[said])

    def message(self, **more: Any) -> JSON:
        """The answer's message object with the given members replaced."""
        metadata: JSON = {"model_slug": self.model, "parent_id": self.question_id, "pad": "AAAA"}
        metadata |= more.pop("metadata", {})
        content = {"content_type": "text", "parts": more.pop("parts", [""])}
        base = {
            "id": self.id,
            "author": {"role": more.pop("role", "assistant"), "name": None, "metadata": {}},
            "create_time": time.time(),
            "update_time": None,
            "content": content,
            "status": "in_progress",
            "end_turn": None,
            "weight": 1.0,
            "metadata": metadata,
            "recipient": "all",
            "channel": None,
        }
        return base | more

    def root(self, message: JSON | None, **more: Any) -> JSON:
        """The object around a message: conversation id and error."""
        return {"message": message, "conversation_id": self.made.id, "error": None, **more}

    def done(self, id: str, **more: Any) -> JSON:
        """A finished message with its own id."""
        return self.message(id=id, status="finished_successfully", **more)

    def before(self) -> Iterator[JSON]:
        """The messages before the answer: system, user, and those that the model's words add."""
        hidden = {"is_visually_hidden_from_conversation": True}
        yield self.done("s1", role="system", metadata=hidden, end_turn=True)
        if "echo" in self.words and self.made.turns > 1:
            old = {"parent_id": "older"}
            yield self.done("old", parts=["An older answer."], end_turn=True, metadata=old)
        yield self.done(self.question_id, role="user", parts=[self.text])
        if "thoughts" in self.words:
            said = [{"summary": "Thinking", "content": "about it"}]
            thoughts = {"content_type": "thoughts", "thoughts": said}
            yield self.done("t1", content=thoughts)
        if "tools" in self.words:
            yield self.done("c1", recipient="python", parts=["print(1)"], end_turn=False)
            output = {"content_type": "execution_output", "text": "1"}
            yield self.done("c2", role="tool", content=output)
        if self.words & {"image", "sediment"}:
            id = ("file_" if "sediment" in self.words else "file-") + secrets.token_hex(12)
            files[id] = (self.made.account, PNG)
            scheme = "sediment" if "sediment" in self.words else "file-service"
            pointer = {
                "content_type": "image_asset_pointer",
                "asset_pointer": f"{scheme}://{id}",
                "width": 1,
                "height": 1,
            }
            content = {"content_type": "multimodal_text", "parts": [pointer]}
            yield self.done("i1", role="tool", content=content)
        if "two" in self.words:
            yield self.done("first", parts=["Let me see."], end_turn=False)

    def after(self) -> Iterator[bytes]:
        """The events after the answer: title, metadata, [DONE]."""
        id = self.made.id
        yield event_bytes({"type": "title_generation", "title": "A title", "conversation_id": id})
        yield event_bytes({"type": "conversation_detail_metadata", "conversation_id": id})
        yield b"data: [DONE]\n\n"

    def pieces(self) -> list[str]:
        """The pieces of the text, with a citation mark when asked."""
        said = self.said
        if "cite" in self.words:
            said += " \ue200cite\ue202turn0search0\ue201"
        return list(self.fault.pieces(said))

    def finished(self) -> JSON:
        """The metadata of the finished message."""
        metadata: JSON = {"finish_details": {"type": "stop"}, "is_complete": True}
        if "cite" in self.words:
            page = {"title": "A page", "url": "https://page.example/"}
            metadata["content_references"] = [
                {"matched_text": "\ue200cite\ue202turn0search0\ue201", "items": [page]}
            ]
        return metadata

    def snapshots(self) -> Iterator[bytes]:
        """The SSE events of the older encoding: each holds the whole message so far."""
        for message in self.before():
            yield self._break(self.root(message))
        text = ""
        for piece in self.pieces():
            text += piece
            yield self._break(self.root(self.message(parts=[text])))
            if self.words & {"error", "moderated", "handoff"}:
                yield from self._odd_end()
                return
        last = self.done(self.id, parts=[text], end_turn=True, metadata=self.finished())
        yield self._break(self.root(last))
        yield from self.after()

    def deltas(self) -> Iterator[bytes]:
        """The SSE events of delta encoding v1."""
        yield b'event: delta_encoding\ndata: "v1"\n\n'
        channel = 0
        for channel, message in enumerate(self.before()):
            yield self._delta({"p": "", "o": "add", "v": self.root(message), "c": channel})
        first = self.root(self.message())
        yield self._delta({"p": "", "o": "add", "v": first, "c": channel + 1})
        pieces = self.pieces()
        for number, piece in enumerate(pieces[:-1]):
            append = {"p": "/message/content/parts/0", "o": "append"} if number == 0 else {}
            yield self._delta({**append, "v": piece})
            if self.words & {"error", "moderated", "handoff"}:
                yield from self._odd_end()
                return
        patch = [
            {"p": "/message/metadata", "o": "append", "v": self.finished()},
            {"p": "/message/content/parts/0", "o": "append", "v": pieces[-1]},
            {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
            {"p": "/message/end_turn", "o": "replace", "v": True},
        ]
        yield self._delta({"p": "", "o": "patch", "v": patch})
        complete = {"type": "message_stream_complete", "conversation_id": self.made.id}
        yield event_bytes(complete)
        yield from self.after()

    def _odd_end(self) -> Iterator[bytes]:
        if "error" in self.words:
            yield event_bytes(self.root(None, error="Something went wrong."))
        elif "moderated" in self.words:
            yield event_bytes({"moderation_response": {"flagged": True, "blocked": True}})
        else:
            yield event_bytes({"type": "stream_handoff", "options": []})
        yield b"data: [DONE]\n\n"

    def _delta(self, data: JSON) -> bytes:
        return self._break(data, "event: delta\n")

    def _break(self, data: JSON, name: str = "") -> bytes:
        whole = event_bytes(data, name)
        return whole.replace(b"\n", b"\r\n") if "crlf" in self.words else whole


def event_bytes(data: JSON, name: str = "") -> bytes:
    """One SSE event, its JSON padded with blanks; `name` is the `event:` line."""
    body = encode(data)
    return name.encode() + b"data: " + body + b" " * (-len(body) % 8) + b"\n\n"
