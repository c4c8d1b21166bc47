"""An upstream's answer becomes the caller's: four renderers with one interface.

`feed(bytes)` takes one upstream read and gives what to send now; `finish()` takes the end of the
body and gives the last bytes, or raises when the answer was cut short. Nothing here awaits.

    Passthrough   the upstream speaks OpenAI, streamed: whole events go through untouched
    Whole         the upstream speaks OpenAI, not streamed: the body goes through untouched
    Chunks        a decoder's events become `data: {chunk}` events
    Completion    a decoder's events are folded into one chat.completion object
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from app.ending import Tail, failure, finished, is_done, usage_in, usage_of
from app.opening import Stage, look
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.events import (
    End,
    Event,
    Extension,
    Finish,
    Follow,
    Piece,
    Reasoning,
    Refusal,
    Reply,
    Session,
    Started,
    Text,
    ToolArguments,
    ToolCall,
    Unknown,
    Usage,
)
from app.wire.framing import MAX_RECORD_BYTES, SSEParser
from app.wire.provider import Decoder
from app.wire.refusals import of_value
from app.wire.surrogates import mend

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": ping\n\n"

# What an event stream can begin with, whatever its content type says.
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")
_EVENT = re.compile(rb".*?(?:\n\n|\r\n\r\n)", re.DOTALL).findall
_SNIFFED_BYTES = 4096
_USAGE_BYTES = 64 * 1024

encode = msgspec.json.encode


class Renderer(Protocol):
    content_type: str
    asks: list[Follow | Reply]  # what the exchange must do before it reads on
    refused: bool  # the upstream told the caller of an error inside its stream
    error: GatewayError | None  # which one, where the answer was passed on as it came
    ended: bool  # the answer is whole, whatever the connection does

    @property
    def usage(self) -> Usage | None: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def opening(self, out: bytes) -> Stage:
        """How far the stream has come with `out`, as long as nothing was said. Raises GatewayError
        for an error in place of an answer."""


class _Glance(Struct):
    """The little that is read of an OpenAI object that is passed on untouched."""

    choices: Raw = Raw()
    error: Any = None
    usage: Raw = Raw()


_glance = msgspec.json.Decoder(_Glance)


class _Extra(Struct):
    """What the chunk has that is sent when usage was asked for."""

    choices: list[Any]
    usage: dict[str, Any]


_extra = msgspec.json.Decoder(_Extra)
# What OpenAI's words for an error inside a stream would have been as a status.
_STATUS = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "tokens": 429,
    "requests": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
}


def as_error(told: Any) -> GatewayError:
    """What an upstream says in an answer that has begun, or with status 200: object or text."""
    found = of_value(told)
    number = told.get("status_code") if isinstance(told, dict) else None
    status = (
        _STATUS.get(found.code or "")
        or _STATUS.get(found.type)
        or _status(found.code)
        or _status(str(number))
        or 502
    )
    return GatewayError(
        status,
        found.message or "The upstream broke its answer off at once, without a reason.",
        type=found.type,
        code=found.code or ("upstream_error" if status == 502 else None),
        param=found.param,
        outcome="upstream_error",
    )


def wrong_type(label: str, wanted: str) -> GatewayError:
    """A 200 of the wrong kind (a captive portal's page, JSON for a stream) is no answer."""
    return bad_response(
        f"The upstream answered 200 with {label.split(';')[0]!r} instead of {wanted}; "
        "check the upstream address in the config."
    )


def _status(code: str | None) -> int | None:
    """Some upstreams put the status where the code should be."""
    if code is None or len(code) != 3 or not code.isdecimal():
        return None
    return int(code) if 400 <= int(code) <= 511 else None


class Passthrough:
    """Whole events, byte for byte. An unfinished one waits for its end, so that a comment or an
    error event can always stand between two events and a cut never leaves half of one."""

    content_type = SSE

    def __init__(
        self,
        max_bytes: int = MAX_RECORD_BYTES,
        *,
        choices: int = 1,
        adds_usage: bool = False,
        label: str | None = None,
    ) -> None:
        """`choices` is how many were asked for; `adds_usage`: usage was asked for on the caller's
        behalf, who must not see its chunk; `label`: the content type, where it is no event
        stream's."""
        self.asks: list[Follow | Reply] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None  # told inside the stream
        self.is_cut = False  # the connection broke: no finish reason makes up for that
        self.label = label
        self._held = bytearray()
        self._is_plain = False  # nothing is held, and what came first were events
        self._has_begun = False
        self._searched = 0
        self._max = max_bytes
        self._tail = Tail()
        self._choices, self._finished = choices, set[int]()
        self._adds_usage = adds_usage
        self._is_undecided = choices > 1 or adds_usage
        self._sought = b""  # reads that hold it are looked at

    def feed(self, data: bytes) -> bytes:
        if self._is_plain and data.endswith((b"\n\n", b"\r\n\r\n")):
            out = data
        else:
            out = self._whole_events(data)
            if not out:
                return out
        self._tail.add(out)
        if self._sought and out.rfind(self._sought) >= 0:  # `in` would take twice as long
            return self._special(out)
        return out

    def opening(self, out: bytes) -> Stage:
        stage, told = look(out)
        if told is not None:
            raise as_error(told)
        return stage

    def _whole_events(self, data: bytes) -> bytes:
        held = self._held
        held += data
        if not self._has_begun:
            if not self._begins():
                return b""
            self._has_begun = True
        # An event ends in LF LF or CR LF CR LF; the searched part is never searched again.
        lf = held.rfind(b"\n\n", self._searched)
        crlf = held.rfind(b"\r\n\r\n", self._searched)
        if lf < 0 and crlf < 0:
            if len(held) > self._max:
                raise bad_response("The upstream sent an event above the size limit.")
            self._is_plain = False
            self._searched = max(len(held) - 3, 0)
            return b""
        end = lf + 2 if lf > crlf else crlf + 4
        out = bytes(held[:end])
        del held[:end]
        self._searched = 0
        if self._is_undecided and b'"choices"' in out:
            self._is_undecided = False
            self._sought = b'"choices"'
            if self._choices <= 1:  # as this upstream writes the empty list
                self._sought += b": []" if b'"choices": ' in out else b":[]"
        self._is_plain = not held and not self._is_undecided
        return out

    def _begins(self) -> bool:
        """Whether what came is the start of events. Raises for what is none, by its first bytes:
        the label of a stream is wrong often enough."""
        if self.label is None:
            return True
        start = bytes(self._held[:_SNIFFED_BYTES])
        unsure = start in (b"\xef", b"\xef\xbb")
        start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(_FIELDS):
            return True
        unsure = unsure or any(field.startswith(start) for field in _FIELDS)
        if unsure and len(self._held) < _SNIFFED_BYTES:
            return False  # it may still become one
        told = None
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            told = _glance.decode(bytes(self._held)).error if start[:1] == b"{" else None
        raise as_error(told) if told else wrong_type(self.label, "text/event-stream")

    def _special(self, out: bytes) -> bytes:
        if self._choices > 1 and b'"finish_reason"' in out:
            self._finished |= finished(SSEParser().feed(out))[1]
        if not self._adds_usage:
            return out
        return self._without_usage(out)

    def _without_usage(self, out: bytes) -> bytes:
        """The events but for the chunk that holds nothing but usage."""
        kept = []
        for event in _EVENT(out):
            line = event.strip()
            if b'"usage"' in line and line.startswith(b"data:"):
                with suppress(msgspec.DecodeError, ValueError):
                    if not _extra.decode(line[5:]).choices:
                        continue
            kept.append(event)
        return b"".join(kept)

    def finish(self) -> bytes:
        rest = bytes(self._held).strip()
        if not self._has_begun and self.label is not None:
            raise wrong_type(self.label, "text/event-stream")
        out = b""
        if rest and (is_done(rest) or (not self.is_cut and self._is_event(rest))):
            out = rest + b"\n\n"  # its last newline got lost
            self._tail.add(out)
            rest = b""
            out = self._special(out) if self._sought and self._sought in out else out
        last = self._tail.bytes()
        told = failure(self._tail.records()) if b"error" in last or b"failed" in last else None
        if told:
            self.refused, self.error = True, as_error(told)
        if is_done(last) or (told and not rest):
            return out
        if self.is_cut or rest or not self._is_whole():
            raise upstream_cut()
        return out + DONE

    def _is_whole(self) -> bool:
        """Whether each choice has ended, though nobody said [DONE]."""
        if self._choices > 1:
            return len(self._finished) >= self._choices
        seen, ended = finished(self._tail.records())
        return bool(ended) and seen == ended

    @staticmethod
    def _is_event(rest: bytes) -> bool:
        records = SSEParser().feed(rest + b"\n\n")
        try:
            for _, data in records:
                msgspec.json.decode(mend(data))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        return bool(records) or rest.startswith((b":", b"error:"))

    @property
    def usage(self) -> Usage | None:
        return usage_in(self._tail.bytes())


class Whole:
    """A JSON body, handed on as it came once it is known to be whole and JSON."""

    content_type = JSON

    def __init__(self, max_bytes: int, label: str | None = None) -> None:
        self.asks: list[Follow | Reply] = []
        self.usage: Usage | None = None
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self.label = label  # the content type, where it is not JSON's
        self._pieces: list[bytes] = []
        self._left = max_bytes

    def feed(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self._pieces.append(data)
        return b""

    def opening(self, out: bytes) -> Stage:
        return Stage.SAID

    def finish(self) -> bytes:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        try:
            glance = self._read(body)
        except msgspec.ValidationError:
            return body  # of another shape, which is not ours to judge
        except (msgspec.DecodeError, ValueError):
            body = mend(body)
            try:
                glance = self._read(body)
            except (msgspec.DecodeError, ValueError):
                if self.label is not None:
                    raise wrong_type(self.label, "json") from None
                raise bad_response("The upstream's answer is not valid JSON.") from None
        if bytes(glance.usage)[:1] == b"{":
            self.usage = usage_of(glance.usage)
        else:
            self.usage = usage_in(body[-_USAGE_BYTES:])
        if glance.error:
            self.refused, self.error = True, as_error(glance.error)
            if bytes(glance.choices) in (b"", b"null", b"[]"):
                raise self.error  # nothing but an error: another key may do better
        return body

    @staticmethod
    def _read(body: bytes) -> _Glance:
        try:
            return _glance.decode(body)
        except msgspec.ValidationError:
            msgspec.json.decode(body, type=Raw)  # it must be JSON to its end
            raise


class Untranslated:
    """The upstream's own stream, of which the decoder only knows where it goes on and ends, and
    which conversation it is: `stamp` is told to nobody here, but remembered."""

    content_type = SSE

    def __init__(self, decoder: Decoder, stamp: dict[str, Any]) -> None:
        self.stamp = stamp
        self.asks: list[Follow | Reply] = []
        self.usage: Usage | None = None
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self._decoder = decoder

    def feed(self, data: bytes) -> bytes:
        return self._take(self._decoder.feed(data))

    def finish(self) -> bytes:
        return self._take(self._decoder.finish())

    def opening(self, out: bytes) -> Stage:
        return Stage.SAID

    def _take(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            match event:
                case Piece():
                    out.append(event.data)
                case Session():
                    for own in self.stamp.values():
                        own.update(event.fields)
                case Follow() | Reply():
                    self.asks.append(event)
                case End():
                    self.ended = True
        return b"".join(out)


class _Teller:
    """What Chunks and Completion share: who answers, and what the exchange is asked to do."""

    def __init__(
        self, decoder: Decoder, *, model: str, created: int, new_id: str, stamp: dict[str, Any]
    ) -> None:
        self.decoder = decoder
        self.usage: Usage | None = None
        self.asks: list[Follow | Reply] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self.unknown: list[str] = []
        self.said = False  # something of the answer itself
        self.model = model
        self.created = created
        self.id = f"chatcmpl-{new_id}"
        self.stamp = stamp
        self.legacy = False  # the caller speaks the older `functions`

    def opening(self, out: bytes) -> Stage:
        return Stage.SAID if self.said else Stage.BEGUN

    def aside(self, event: Event) -> None:
        """Events that put nothing into the answer."""
        match event:
            case Usage():
                self.usage = event
            case Follow() | Reply():
                self.asks.append(event)
            case End():
                self.ended = True
            case Unknown():
                self.unknown.append(event.name)

    def begin(self, event: Started) -> None:
        self.id = event.id or self.id
        self.model = event.model or self.model
        self.legacy = event.legacy_functions

    def continues(self, fields: dict[str, Any]) -> None:
        # The provider's own object holds the session: {"claude": {..., "conversation": {...}}}.
        for own in self.stamp.values():
            own.update(fields)

    def usage_object(self) -> Any:
        usage = self.usage or Usage()
        if usage.raw is not None:
            return usage.raw
        total = usage.total_tokens
        prompt_details: dict[str, int] = {"cached_tokens": usage.cached_tokens}
        if usage.cache_write_tokens is not None:
            prompt_details["cache_write_tokens"] = usage.cache_write_tokens
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens
            if total is None
            else total,
            "prompt_tokens_details": prompt_details,
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }


class Chunks(_Teller):
    """chat.completion.chunk events. The parts that never change are encoded once per stream."""

    content_type = SSE

    def __init__(
        self,
        decoder: Decoder,
        *,
        model: str,
        created: int,
        new_id: str,
        stamp: dict[str, Any],
        include_usage: bool,
    ) -> None:
        super().__init__(decoder, model=model, created=created, new_id=new_id, stamp=stamp)
        self._include_usage = include_usage
        self._told: set[int] = set()  # choices that have had their role chunk
        self._ended: set[int] = set()
        self._listed: dict[tuple[int, str], int] = {}  # entries told of a choice's extension lists
        self._templates()

    def _templates(self) -> None:
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (encode(self.id), self.created, encode(self.model))
        )
        # `{"claude": {...}}` without its braces, as further members of the chunk.
        stamp = b"," + encode(self.stamp)[1:-1] if self.stamp else b""
        self._end = (b',"usage":null' if self._include_usage else b"") + stamp + b"}\n\n"
        self._stamp = stamp
        self._delta_end = b',"logprobs":null,"finish_reason":null}]' + self._end
        self._text_head = self._head + b'{"index":0,"delta":{"content":'
        self._text_end = b"}" + self._delta_end
        self._reasoning_head = self._head + b'{"index":0,"delta":{"reasoning_content":'

    def feed(self, data: bytes) -> bytes:
        return self._render(self.decoder.feed(data))

    def finish(self) -> bytes:
        out = self._render(self.decoder.finish())
        if not self._ended:
            raise upstream_cut("The upstream's answer has no ending")
        if self._include_usage:
            out += self._head + b'],"usage":' + encode(self.usage_object()) + self._stamp
            out += b"}\n\n"
        return out + DONE

    def _render(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        try:
            self._say_all(events, out)
        except GatewayError as error:
            # What was said in the same read stands before the error, unless nothing was sent yet:
            # then the caller gets a true status, or another key's answer.
            error.said = b"".join(out)
            raise
        return b"".join(out)

    def _say_all(self, events: Iterable[Event], out: list[bytes]) -> None:
        for event in events:
            # The hot line first: nine of ten events are plain text of the first choice.
            if type(event) is Text and not event.index and event.logprobs is None and self.said:
                if event.text:
                    out += (self._text_head, encode(event.text), self._text_end)
            else:
                self._say(event, out)

    def _say(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Started():
                self.begin(event)
                self._templates()
                self._role(0, out)
            case Session():
                self.continues(event.fields)
                self._templates()
            case Usage() | Follow() | Reply() | End() | Unknown():
                self.aside(event)
            case Text():
                self._role(event.index, out)
                if event.text or event.logprobs is not None:
                    self._delta(event.index, {"content": event.text}, out, event.logprobs)
            case Reasoning():
                self._role(event.index, out)
                if event.text and not event.index:
                    self.said = True
                    out += (self._reasoning_head, encode(event.text), self._text_end)
                elif event.text:
                    self._delta(event.index, {"reasoning_content": event.text}, out)
            case Refusal():
                self._role(event.index, out)
                self._delta(event.index, {"refusal": event.text}, out)
            case ToolCall() if self.legacy:
                self._role(event.index, out)
                if not event.tool:  # there was one call at most in those days
                    function = {"name": event.name, "arguments": event.arguments}
                    self._delta(event.index, {"function_call": function}, out)
            case ToolArguments() if self.legacy:
                if not event.tool:
                    function = {"arguments": event.arguments}
                    self._delta(event.index, {"function_call": function}, out)
            case ToolCall():
                self._role(event.index, out)
                call: dict[str, Any] = {
                    "index": event.tool,
                    "id": event.id,
                    "type": "function",
                    "function": {"name": event.name, "arguments": event.arguments},
                }
                if event.extra_content is not None:
                    call["extra_content"] = event.extra_content
                self._delta(event.index, {"tool_calls": [call]}, out)
            case ToolArguments():
                piece = {"index": event.tool, "function": {"arguments": event.arguments}}
                self._delta(event.index, {"tool_calls": [piece]}, out)
            case Extension():
                self._role(event.index, out)
                self._delta(event.index, self._numbered(event), out)
            case Finish():
                self._role(event.index, out)
                if event.index not in self._ended:
                    self.said = True
                    self._ended.add(event.index)
                    out += (
                        self._head,
                        b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}]'
                        % (event.index, encode(event.reason)),
                        self._end,
                    )

    def _numbered(self, event: Extension) -> dict[str, Any]:
        """Entries of lists with their `index`: OpenAI's client cannot join deltas without it."""
        fields = dict(event.fields)
        for name, value in fields.items():
            if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
                first = self._listed.get((event.index, name), 0)
                self._listed[event.index, name] = first + len(value)
                fields[name] = [{"index": at, **entry} for at, entry in enumerate(value, first)]
        return fields

    def _role(self, index: int, out: list[bytes]) -> None:
        if index not in self._told:
            self._told.add(index)
            role = b'{"index":%d,"delta":{"role":"assistant","content":""}' % index
            out += (self._head, role, self._delta_end)

    def _delta(
        self, index: int, delta: dict[str, Any], out: list[bytes], logprobs: Any = None
    ) -> None:
        self.said = True
        out.append(self._head + b'{"index":%d,"delta":%b' % (index, encode(delta)))
        if logprobs is None:
            out.append(self._delta_end)
        else:
            out += (b',"logprobs":', encode(logprobs), b',"finish_reason":null}]', self._end)


class _Choice:
    """One choice being put together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools: dict[int, ToolCall] = {}
        self.arguments: dict[int, list[str]] = {}
        self.extension: dict[str, Any] = {}
        self.logprobs: list[Any] = []
        self.reason: str | None = None

    def message(self, legacy: bool) -> dict[str, Any]:
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(self.arguments[tool])},
            }
            | ({} if call.extra_content is None else {"extra_content": call.extra_content})
            for tool, call in sorted(self.tools.items())
        ]
        text = "".join(self.text)
        refusal = "".join(self.refusal) or None
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not (calls or refusal) else None,
            "refusal": refusal,
        }
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if calls and legacy:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        message.update(self.extension)
        return message


class Completion(_Teller):
    """One chat.completion object, sent when the answer is whole."""

    content_type = JSON

    def __init__(
        self,
        decoder: Decoder,
        *,
        model: str,
        created: int,
        new_id: str,
        stamp: dict[str, Any],
        max_bytes: int,
    ) -> None:
        super().__init__(decoder, model=model, created=created, new_id=new_id, stamp=stamp)
        self._choices: dict[int, _Choice] = {}
        self._left = max_bytes

    def feed(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        for event in self.decoder.feed(data):
            self._take(event)
        return b""

    def finish(self) -> bytes:
        for event in self.decoder.finish():
            self._take(event)
        choices = sorted(self._choices.items())
        if not any(choice.reason for _, choice in choices):
            raise upstream_cut("The upstream's answer has no ending")
        return encode(
            {
                "id": self.id,
                "object": "chat.completion",
                "created": self.created,
                "model": self.model,
                "choices": [
                    {
                        "index": index,
                        "message": choice.message(self.legacy),
                        "logprobs": {"content": choice.logprobs, "refusal": None}
                        if choice.logprobs
                        else None,
                        "finish_reason": choice.reason or "stop",
                    }
                    for index, choice in choices
                ],
                "usage": self.usage_object(),
                **self.stamp,
            }
        )

    def _take(self, event: Event) -> None:
        match event:
            case Started():
                self.begin(event)
                self._choice(0)
            case Session():
                self.continues(event.fields)
            case Usage() | Follow() | Reply() | End() | Unknown():
                self.aside(event)
            case Text():
                choice = self._choice(event.index)
                choice.text.append(event.text)
                if event.logprobs is not None:
                    choice.logprobs += event.logprobs.get("content") or []
            case Reasoning():
                self._choice(event.index).reasoning.append(event.text)
            case Refusal():
                self._choice(event.index).refusal.append(event.text)
            case ToolCall():
                choice = self._choice(event.index)
                choice.tools[event.tool] = event
                choice.arguments[event.tool] = [event.arguments]
            case ToolArguments():
                self._choice(event.index).arguments.setdefault(event.tool, []).append(
                    event.arguments
                )
            case Extension():
                held = self._choice(event.index).extension
                for name, value in event.fields.items():
                    if isinstance(value, list) and isinstance(held.get(name), list):
                        held[name] = held[name] + value
                    else:
                        held[name] = value
            case Finish():
                choice = self._choice(event.index)
                choice.reason = choice.reason or event.reason

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        return choice
