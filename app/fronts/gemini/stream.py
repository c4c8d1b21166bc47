"""Events as the chunks of streamGenerateContent: server-sent events, or one JSON array.

Clients are strict: gemini-cli loses a stream that holds a comment, LangChain one that holds an
empty line, and nobody takes [DONE]. Each chunk has a candidate's parts; the reason for the end
stands beside the last ones. Protocol sheet: front-gemini, 4.1 and 4.2.
"""

from collections.abc import Iterable
from typing import Any

from app.fronts.gemini.base import Ending, GeminiRenderer, encode, logprobs_result
from app.wire.errors import GatewayError
from app.wire.events import Event, Text, TokenLogprob
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import SSE

ARRAY = "application/json; charset=UTF-8"


class ChunkStream(GeminiRenderer):
    """Chunks as server-sent events. The parts that never change are encoded once per stream."""

    content_type = SSE
    before, between, after = b"data: ", b"data: ", b"\r\n\r\n"
    last = b""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._out: list[bytes] = []
        self._told: dict[int, list[bytes]] = {}  # parts of the chunk that is being made
        self._logprobs: dict[int, list[TokenLogprob]] = {}
        self._begin = self.before
        told_by = b',"modelVersion":%b,"responseId":%b}' % (encode(self.model), encode(self.id))
        self._tail = told_by + self.after
        self._text_head = b'{"candidates":[{"content":{"role":"model","parts":[{"text":'
        self._text_end = b'}]},"index":0}]' + self._tail
        self._is_plain = not (self._is_one_word or self._is_wrapped or self._cuts)

    def feed(self, data: bytes) -> bytes:
        """Renders a piece of the upstream's answer."""
        try:
            self._tell(self.decoder.feed(data))
            self._send_parts()
        except GatewayError as error:
            # What was said in the same read stands before the error, unless nothing was sent yet:
            # then the caller gets a true status, or another key's answer.
            self._send_parts()
            error.said = self._taken_out()
            raise
        return self._taken_out()

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Renders the end. Raises GatewayError 502 for an answer without an ending."""
        try:
            endings = self.conclude()
        except GatewayError as error:
            self._send_parts()
            error.said = self._taken_out()
            raise
        *before, last = endings
        for index in before:
            self._chunk(index, endings[index])
        self._chunk(last, endings[last], b',"usageMetadata":' + encode(self.counts.metadata()))
        return self._taken_out() + self.last

    def _tell(self, events: Iterable[Event]) -> None:
        out = self._out
        for event in events:
            # The hot line first: nine of ten events are plain text of the first candidate.
            if (
                type(event) is Text
                and self._is_plain
                and self.said
                and not event.index
                and event.logprobs is None
                and not self._told
                and (first := self.candidates.get(0)) is not None
                and not first.calls
            ):
                if text := event.text:
                    piece = encode(text)
                    self.counts.bytes += len(piece)
                    out += (self._begin, self._text_head, piece, self._text_end)
                    self._begin = self.between
            else:
                self.take(event)

    # --- what an answer is told by ------------------------------------------------------------

    def add(self, index: int, part: dict[str, Any], logprobs: list[TokenLogprob] | None) -> None:
        """One more part of the candidate's next chunk. Text is a chunk of its own."""
        self._told.setdefault(index, []).append(encode(part))
        if logprobs is not None:
            self._logprobs.setdefault(index, []).extend(logprobs)

    def _send_parts(self) -> None:
        for index in list(self._told):
            self._chunk(index)

    def _chunk(self, index: int, ending: Ending | None = None, usage: bytes = b"") -> None:
        """One chunk with what is to be told of a candidate."""
        parts = self._told.pop(index, None) or [b'{"text":""}']
        head = b'{"candidates":[{"content":{"role":"model","parts":[%b]}' % b",".join(parts)
        self._out += (self._begin, head)
        self._begin = self.between
        if ending is not None:
            self._out.append(b',"finishReason":%b' % encode(ending.reason))
            if ending.message:
                self._out.append(b',"finishMessage":%b' % encode(ending.message))
        if logprobs := self._logprobs.pop(index, None):
            self._out.append(b',"logprobsResult":%b' % encode(logprobs_result(logprobs)))
        self._out += (b',"index":%d}]' % index, usage, self._tail)

    def _taken_out(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out


class ChunkArray(ChunkStream):
    """The same chunks as elements of one JSON array, for callers who did not ask for `alt=sse`."""

    content_type = ARRAY
    before, between, after = b"[", b"\n,\n", b""
    last = b"\n]"
