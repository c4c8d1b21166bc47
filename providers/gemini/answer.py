"""Decodes Gemini's answers in any of three transports.

    server-sent events   requested when streaming; CRLF framing, no [DONE], ends at EOF
    a JSON array         what comes when something in between drops `alt=sse`
    one JSON object      what comes when not streaming

All three carry the same objects, and the first byte tells them apart. A break-off may ignore the
framing altogether: bare pretty-printed JSON between two events. Finish and Usage are told at the
end of the body, because older models put a finishReason into every chunk and the last count holds.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    Event,
    Finish,
    Reasoning,
    Refusal,
    Started,
    Text,
    TokenLogprob,
    ToolCall,
    TopLogprob,
    Unknown,
    Usage,
)
from app.wire.fenced_code import fenced_code
from app.wire.framing import JsonArrayParser, SSEParser
from app.wire.provider import Call
from app.wire.surrogates import mend
from providers.gemini.errors import find_status, stream_error, to_error
from providers.gemini.parts import json_arguments, markdown_link, unknown_members
from providers.gemini.raw_json import JSON_ERRORS
from providers.gemini.schema import (
    Candidate,
    Chunk,
    FunctionCall,
    LaterChunk,
    LogprobsCandidate,
    LogprobsResult,
    ModalityCount,
    Part,
    UsageMetadata,
)
from providers.gemini.signatures import REMEMBERED, Signatures

FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
    "LANGUAGE": "stop",
    "OTHER": "stop",
    "NO_IMAGE": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MALFORMED_FUNCTION_CALL": "stop",
    "UNEXPECTED_TOOL_CALL": "stop",
    "TOO_MANY_TOOL_CALLS": "stop",
    "MALFORMED_RESPONSE": "stop",
    "MISSING_THOUGHT_SIGNATURE": "stop",
}

# An answer without content that ends like this is a failure; another attempt may succeed.
_BROKEN = ("MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE")
_BROKEN_CALLS = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")

_chunk = msgspec.json.Decoder(Chunk).decode
_later = msgspec.json.Decoder(LaterChunk).decode
_usage = msgspec.json.Decoder(UsageMetadata | None)
_logprobs = msgspec.json.Decoder(LogprobsResult | None)
_BLANKS = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


class AnswerDecoder:
    """Decodes any transport; the first byte tells which.

    `renamed` maps sent function names to the caller's.

    An error that follows text in the same read is kept until the next call, so that the text is
    never lost with it.
    """

    def __init__(
        self,
        *,
        model: str,
        new_id: Callable[[], str],
        stream: bool = True,
        renamed: Mapping[str, str] | None = None,
        max_bytes: int = 64 * 1024 * 1024,
        signatures: Signatures = REMEMBERED,
    ) -> None:
        self._model, self._new_id, self._stream = model, new_id, stream
        self._renamed = renamed or {}
        self._signatures = signatures
        self._max_bytes = max_bytes
        self._head = bytearray()  # what came before the first byte that tells the transport
        self._objects: Callable[[bytes], Collection[bytes]] = self._sniff
        self._sse: SSEParser | None = None
        self._array: JsonArrayParser | None = None
        self._whole: bytearray | None = None
        self._decode: Callable[[bytes], Any] = _chunk
        self._started: Started | None = None  # held back until there is something to tell
        self._broken: GatewayError | None = None
        self._answered = False
        self._told = False
        self._finish: dict[int, str | None] = {}  # candidates seen, and how they ended
        self._finish_message = ""
        self._blocked = self._blocked_message = ""
        self._calls: dict[int, int] = {}
        self._call_ids: dict[str, tuple[str, str]] = {}  # and what they call
        self._usage = Raw(b"")

    def feed(self, data: bytes) -> list[Event]:
        """Decodes the next bytes of the body; any split gives the same events."""
        if self._broken is not None:
            raise self._broken
        events: list[Event] = []
        try:
            if self._sse is not None:
                self._read_all(self._sse.feed(data), events)
            else:
                records = self._objects(data)
                if self._sse is not None:  # now it is known to be one
                    self._read_all([(b"", record) for record in records], events)
                else:
                    for record in records:
                        self._read(record, events)
        except GatewayError as error:
            if not events:
                raise
            self._broken = error
        return events

    def finish(self) -> list[Event]:
        """Tells how the answer ended. Raises GatewayError 502 when it was not whole."""
        if self._broken is not None:
            raise self._broken
        events: list[Event] = []
        for record in self._rest():
            try:
                self._read(record, events)
            except GatewayError as error:
                # A last event that is no JSON is half of one.
                if error.code != "upstream_bad_response" or self._sse is None:
                    raise
                raise upstream_cut() from None
        self._check_the_end()
        if not self._finish:
            message = f" ({self._blocked_message})" if self._blocked_message else ""
            events.append(Refusal(f"blocked: {self._blocked}{message}"))
            self._finish[0] = None
        for index, reason in sorted(self._finish.items()):
            self._say_finish(index, reason, events)
        self._say_usage(events)
        if self._started is not None:
            events.insert(0, self._started)
            self._started = None
        return events

    # The three transports

    def _sniff(self, data: bytes) -> Collection[bytes]:
        head = self._head
        head += data
        if _BOM.startswith(head[:3]):
            if len(head) < 3:
                return ()
            del head[:3]
        start = bytes(head.lstrip(_BLANKS))
        head.clear()
        if not start:
            return ()
        if start[:1] not in (b"{", b"["):
            self._sse = SSEParser(self._max_bytes)
            return [record for _, record in self._sse.feed(start)]
        if self._stream:
            self._array = JsonArrayParser(self._max_bytes)
            self._objects = self._array.feed
        else:
            self._whole = bytearray()
            self._objects = self._gather
        return self._objects(start)

    def _gather(self, data: bytes) -> Collection[bytes]:
        # Not streaming: one decode at the end costs less than finding the end of the object.
        assert self._whole is not None
        self._whole += data
        if len(self._whole) > self._max_bytes:
            raise bad_response("Gemini's answer is above limits.response_bytes.")
        return ()

    def _rest(self) -> list[bytes]:
        if self._whole is not None:
            return [mend(bytes(self._whole))]
        if self._sse is not None:
            return [data for _, data in self._sse.finish()]
        if self._array is not None:
            if self._array.open:
                raise upstream_cut()
            return self._array.finish()
        return []

    # One object

    def _read_all(self, records: list[tuple[bytes, bytes]], events: list[Event]) -> None:
        """`_read` for each record, with a fast path for the usual chunk: one piece of text."""
        for _, record in records:
            if self._decode is not _later or self._started is not None or 0 not in self._finish:
                self._read(record, events)
                continue
            try:
                chunk = _later(record)
            except JSON_ERRORS as error:
                self._read_odd(record, events, error)
                continue
            text = None
            if (
                (candidates := chunk.candidates)
                and len(candidates) == 1
                and (content := candidates[0].content) is not None
                and (parts := content.parts)
                and len(parts) == 1
                and candidates[0].finish_reason is None
                and not (candidates[0].index or candidates[0].logprobs_result)
                and not (chunk.error or chunk.prompt_feedback)
                and parts[0].function_call is None
                and not parts[0].thought
            ):
                text = parts[0].text
            if text:
                self._told = True
                self._usage = chunk.usage_metadata or self._usage
                events.append(Text(text))
            else:
                self._use(chunk, record, events)

    def _read(self, record: bytes, events: list[Event]) -> None:
        try:
            chunk = self._decode(record)
        except JSON_ERRORS as error:
            self._read_odd(record, events, error)
            return
        self._use(chunk, record, events)

    def _use(self, chunk: Any, record: bytes, events: list[Event]) -> None:
        if chunk.error and bytes(chunk.error) != b"null":
            raise stream_error(chunk.error)
        if self._decode is _chunk:
            self._decode = _later
            self._begin(chunk)
        if chunk.usage_metadata:
            self._usage = chunk.usage_metadata
        for candidate in chunk.candidates or ():
            self._read_candidate(candidate, record, events)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._blocked = chunk.prompt_feedback.block_reason
            self._blocked_message = chunk.prompt_feedback.block_reason_message or ""
        if self._started is not None and events:
            events.insert(0, self._started)
            self._started = None

    def _read_odd(self, record: bytes, events: list[Event], error: Exception) -> None:
        stripped = record.strip()
        if not stripped or stripped == b"[DONE]":  # of something in between, not of Google
            return
        if stripped.startswith(b"["):  # an array as a whole, as a refusal or without alt=sse
            try:
                elements = msgspec.json.decode(stripped, type=list[Raw])
            except JSON_ERRORS:
                elements = []
            for element in elements:
                if not bytes(element).startswith(b"{"):
                    break
                self._read(bytes(element), events)
            else:
                if elements:
                    return
        raise bad_response(f"Gemini sent what is not an answer of its API: {error}.") from None

    def _begin(self, chunk: Chunk) -> None:
        self._answered = True
        self._started = Started(
            f"chatcmpl-{chunk.response_id or self._new_id()}",
            chunk.model_version or self._model,
        )

    def _read_candidate(self, candidate: Candidate, record: bytes, events: list[Event]) -> None:
        index = candidate.index or 0
        if candidate.finish_reason is not None:
            self._finish[index] = candidate.finish_reason
            self._finish_message = candidate.finish_message or self._finish_message
        elif index not in self._finish:
            self._finish[index] = None
        logprobs = None
        if candidate.logprobs_result:
            logprobs = _to_logprobs(candidate.logprobs_result)
        content = candidate.content
        if content is not None and content.parts:
            for part in content.parts:
                text = part.text
                if text is None or part.function_call is not None:
                    self._read_part(part, index, record, events)
                elif text:
                    if part.thought:
                        events.append(Reasoning(text, index))
                    else:
                        self._told = True
                        events.append(Text(text, index, logprobs))
                        logprobs = None
        if logprobs is not None:
            events.append(Text("", index, logprobs))

    def _read_part(self, part: Part, index: int, record: bytes, events: list[Event]) -> None:
        """A part that is not text."""
        text = ""
        if part.function_call is not None:
            self._told = True
            self._read_call(part.function_call, part.thought_signature, index, events)
        elif part.inline_data is not None:
            mime, data = part.inline_data.mime_type or "", part.inline_data.data or ""
            text = markdown_link(mime, f"data:{mime};base64,{data}")
        elif part.file_data is not None:
            text = markdown_link(part.file_data.mime_type or "", part.file_data.file_uri or "")
        elif part.executable_code is not None:
            code = part.executable_code
            text = fenced_code(code.code or "", (code.language or "").lower())
        elif part.code_execution_result is not None:
            text = fenced_code(part.code_execution_result.output or "", "")
        elif part.thought_signature is None:
            events.append(Unknown(f"part {unknown_members(record)}"))
        if text and part.thought:
            events.append(Reasoning(text, index))
        elif text:
            self._told = True
            events.append(Text(text, index))

    def _read_call(
        self, call: FunctionCall, signature: str | None, index: int, events: list[Event]
    ) -> None:
        name = call.name or ""
        name = self._renamed.get(name, name)
        arguments = json_arguments(call.args)
        call_id = call.id
        if call_id and self._call_ids.get(call_id) == (name, arguments):
            return  # told again
        if not call_id or call_id in self._call_ids:
            call_id = f"call_{self._new_id()[:24]}"
        self._call_ids[call_id] = name, arguments
        tool = self._calls.get(index, 0)
        self._calls[index] = tool + 1
        if signature:
            self._signatures.remember(call_id, name, signature)
        events.append(ToolCall(call_id, name, arguments, tool, index, signature or None))

    # The end

    def _check_the_end(self) -> None:
        """Raises unless the answer was whole."""
        unfinished = not self._finish or None in self._finish.values()
        if self._blocked or (not unfinished):
            return
        if self._sse is not None and self._sse.stray:
            status = find_status(bytes(self._sse.stray))
            if status is not None:
                raise to_error(status, status.http_status)
            if not self._answered:
                raise bad_response("Gemini's answer is neither JSON nor an event stream.")
        if self._whole is None:
            raise upstream_cut()
        # One whole object cannot have been cut: a missing finishReason says nothing.
        if not self._finish:
            raise bad_response("Gemini's answer holds no candidate.")

    def _say_finish(self, index: int, reason: str | None, events: list[Event]) -> None:
        if reason is None:
            reason = "SAFETY" if self._blocked else "STOP"
        if not self._told and reason in _BROKEN_CALLS + _BROKEN:
            raise self._broken_answer(reason)
        word = FINISH_REASONS.get(reason)
        if word is None:
            events.append(Unknown(f"finishReason {reason}"))
            word = "stop"
        if word == "content_filter" and self._finish_message and not self._told:
            events.append(Refusal(self._finish_message, index))
        if word == "stop" and self._calls.get(index):
            # Gemini ends with STOP after calls too, even chunks later.
            word = "tool_calls"
        events.append(Finish(word, index, native=reason))

    def _broken_answer(self, reason: str) -> GatewayError:
        said = f": {self._finish_message}" if self._finish_message else ""
        what, code = f"The model's answer came to nothing ({reason}){said}.", reason.lower()
        if reason in _BROKEN_CALLS:
            what = f"The model made a tool call that Gemini could not use ({reason}){said}."
            code = "malformed_function_call"
        what += " Try again, or simplify the tools."
        return GatewayError(502, what, code=code, outcome="upstream_error")

    def counted(self) -> Usage | None:
        """The counts of the last chunk that had some: each counts all that came before."""
        try:
            usage = _usage.decode(self._usage) if self._usage else None
        except JSON_ERRORS:
            return None
        if usage is None:
            return None
        thoughts = usage.thoughts_token_count or 0
        return Usage(
            prompt_tokens=(usage.prompt_token_count or 0)
            + (usage.tool_use_prompt_token_count or 0),
            # Candidates do not include thoughts on this API; OpenAI's completion does.
            completion_tokens=(usage.candidates_token_count or 0) + thoughts,
            total_tokens=usage.total_token_count,
            cached_tokens=usage.cached_content_token_count or 0,
            reasoning_tokens=thoughts,
            audio_tokens=_audio(usage.prompt_tokens_details),
            completion_audio_tokens=_audio(usage.candidates_tokens_details),
        )

    def _say_usage(self, events: list[Event]) -> None:
        usage = self.counted()
        if usage is not None:
            events.append(usage)
        elif self._usage and bytes(self._usage) != b"null":
            events.append(Unknown("usageMetadata"))


def _audio(counts: list[ModalityCount] | None) -> int:
    return sum(one.token_count or 0 for one in counts or () if one.modality == "AUDIO")


def answer_decoder(call: Call, model: str, renamed: Mapping[str, str]) -> AnswerDecoder:
    """The decoder for the answer to a call; see `AnswerDecoder` for `renamed`."""
    return AnswerDecoder(
        model=model,
        new_id=call.new_id,
        stream=call.stream,
        renamed=renamed,
        max_bytes=call.config.limits.response_bytes,
    )


def _to_logprobs(raw: Raw) -> list[TokenLogprob] | None:
    """logprobsResult, token by token."""
    try:
        result = _logprobs.decode(raw)
    except JSON_ERRORS:
        return None
    if result is None or not result.chosen_candidates:
        return None
    tops = [top.candidates or [] for top in result.top_candidates or []]
    tops += [[]] * (len(result.chosen_candidates) - len(tops))
    return [
        TokenLogprob(*_token(chosen), [TopLogprob(*_token(other)) for other in top])
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    ]


def _token(candidate: LogprobsCandidate) -> tuple[str, float, list[int]]:
    token = candidate.token or ""
    return token, candidate.log_probability or 0.0, list(token.encode())
