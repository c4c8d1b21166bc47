"""Every way an upstream can fail, asked for by name; shared by all families.

A fault is named in the model: `sim-429`, `sim-cut-after-3`; several are joined by `+`, as in
`sim-long-50+drip-20`. A word in the key asks too (`sk-limited-1`), for that key alone, and
POST /_sim/faults sets one for a key, path, family or model for the next M requests (an outage).
Order: rules set by POST, then the key, then the model.

Refusals, before anything is read of the question
    429, 401, 403, 402, 500, 503, 529 ...  any status from 400 to 599
    429-after-7        Retry-After: 7; after-date-7 says it as a date, after-soon as rubbish;
                       after-none leaves it out. Plain 429 says 1
    quota              429 insufficient_quota, no Retry-After
    html               200 with a web page; with a status: html-503
    redirect           307 to /elsewhere on this simulator
    hang               never answers; reset: closes the connection without a byte (TCP RST)
    slow-first-N       N ms before the headers; slow-event-N: N ms between headers and first event
Streams (N counts events; an answer that is not streamed breaks half way instead, 0 = at once)
    hang-after-N       N events, then silence          cut-after-N    N events, then TCP RST
    close-after-N      N events, then FIN in mid body  cut-at-byte-N  RST after N bytes of the body
    end-after-N        N events, then a clean end without the closing event
    error-event[-N]    an error object inside the 200 (after 2 events)
    bad-json[-N]       one event with broken JSON (after 2 events)
    drip[-MS]          one event per 50 ms             split-bytes, split-N   N bytes per write
    crlf, comments     CRLF line ends; a `: ping` comment before each event
    no-length          neither length nor chunks: the body ends with the connection
    chunked            chunks also where a Content-Length was due
Content
    big-N              N KB of text                    long-N         N pieces of text
    refusal            the model declines              replay-NAME    a recorded answer
Then well again
    429-then-ok, hang-times-3-then-ok ...  fails once (three times), from then on answers. Counted
    per family, whole model name and x-sim-id header, whatever the key, until POST /_sim/reset; a
    tag keeps tests apart: 500-then-ok-mytest
Words in a key
    limited[-N]  429 (Retry-After N)   dead  401    broken  500    quota  429 insufficient_quota
    forbidden  403   unpaid  402   overloaded  503   hanging  hang
"""

import asyncio
import fcntl
import gzip
import re
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from http import HTTPStatus

from msgspec import Struct
from sanic import HTTPResponse, Request

from app.simulator.ledger import Record, record_of

Headers = Sequence[tuple[str, str]]

SSE = "text/event-stream; charset=utf-8"
GZIP_FROM_BYTES = 1000
HTML = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking</body></html>"
)
KINDS = {
    400: "bad_request",
    401: "auth",
    402: "payment",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}
KEY_WORDS = (
    ("limited", "429"),
    ("dead", "401"),
    ("broken", "500"),
    ("quota", "quota"),
    ("forbidden", "403"),
    ("unpaid", "402"),
    ("overloaded", "503"),
    ("hanging", "hang"),
)
_MODEL = re.compile(r"(?:^|[/:-])sim-(.+)$")
_REPLAY = re.compile(r"(?:^|[/:])(replay-.+)$")
_THEN_OK = re.compile(r"(?P<base>.+?)(?:-times-(?P<times>\d+))?-then-ok(?:-(?P<tag>.+))?$")
_REFUSAL = re.compile(r"(?P<status>[45]\d\d)(?:-after-(?P<after>.+))?$")
_LIMITED = re.compile(r"limited-(\d+)")
# What may be asked with a number behind it: name, field, the number when none is given.
_NUMBERED: tuple[tuple[str, str, int | None], ...] = (
    ("slow-first", "slow_first_ms", None),
    ("slow-event", "slow_event_ms", None),
    ("hang-after", "hang_after", None),
    ("cut-after", "cut_after", None),
    ("cut-at-byte", "cut_at_byte", None),
    ("close-after", "close_after", None),
    ("end-after", "end_after", None),
    ("error-event", "error_event", 2),
    ("bad-json", "bad_json", 2),
    ("drip", "drip_ms", 50),
    ("split", "split", None),
    ("html", "html_status", 200),
    ("big", "big_kb", None),
    ("long", "long", None),
)
_SWITCHES = {
    "hang": "hang",
    "reset": "reset",
    "redirect": "redirect",
    "crlf": "crlf",
    "comments": "comments",
    "no-length": "no_length",
    "chunked": "chunked",
    "refusal": "refusal",
}


class Refusal(Struct, frozen=True):
    """An answer that is an error status. `kind` is a word each family knows its own shape for."""

    status: int
    kind: str
    retry_after: str | None = None


class Fault(Struct, kw_only=True):
    """What shall go wrong with one answer. Numbers are -1 where nothing was asked."""

    name: str = ""
    refuse: Refusal | None = None
    unknown: str = ""  # a part of the name that means nothing
    hang: bool = False
    reset: bool = False
    redirect: bool = False
    html_status: int = -1
    slow_first_ms: int = -1
    slow_event_ms: int = -1
    hang_after: int = -1
    cut_after: int = -1
    cut_at_byte: int = -1
    close_after: int = -1
    end_after: int = -1
    error_event: int = -1
    bad_json: int = -1
    drip_ms: int = -1
    split: int = -1
    crlf: bool = False
    comments: bool = False
    no_length: bool = False
    chunked: bool = False
    big_kb: int = -1
    long: int = -1
    refusal: bool = False
    replay: str = ""

    def pieces(self, text: str) -> Iterable[str]:
        """The answer's text as the model would stream it: `text` by words, or what was asked."""
        if self.big_kb >= 0:
            return ("0123456789abcde " * 64 for _ in range(self.big_kb))
        if self.long >= 0:
            return (f"word{number} " for number in range(self.long))
        return re.findall(r"\s*\S+|\s+$", text)

    @property
    def breaks_body(self) -> bool:
        """Whether an answer that is not streamed needs more than being sent whole."""
        numbers = (
            self.hang_after,
            self.cut_after,
            self.cut_at_byte,
            self.close_after,
            self.end_after,
            self.slow_event_ms,
            self.drip_ms,
            self.split,
        )
        return self.no_length or self.chunked or max(numbers) >= 0


class Dialect(Struct, frozen=True, kw_only=True):
    """How one family words its failures."""

    refuse: Callable[[Refusal], HTTPResponse]
    error_event: bytes  # one whole event
    error_body: bytes  # the same as a JSON body
    bad_event: bytes  # one whole event whose JSON is broken


class Rule(Struct, kw_only=True):
    """A fault set from outside for all requests that match every selector given."""

    fault: str
    times: int = 1  # -1: until reset
    key: str | None = None
    path: str | None = None
    family: str | None = None
    model: str | None = None

    def matches(self, record: Record) -> bool:
        return (
            self.times != 0
            and self.key in (None, record.key)
            and self.family in (None, record.family)
            and self.model in (None, record.model)
            and (self.path is None or record.path.startswith(self.path))
        )


class Faults:
    """Chooses the fault of each request and remembers what has to be counted for that."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._uses: Counter[tuple[str, str, str]] = Counter()

    def reset(self) -> None:
        self.rules.clear()
        self._uses.clear()

    def pick(self, request: Request, model: str = "") -> Fault:
        """The fault for this request; the families call it once they know the model."""
        record = record_of(request)
        record.model = model
        fault = self._pick(record, request.headers.get("x-sim-id", ""))
        record.fault = fault.name
        return fault

    def _pick(self, record: Record, sim_id: str) -> Fault:
        for rule in self.rules:
            if rule.matches(record):
                rule.times -= 1 if rule.times > 0 else 0
                if not rule.times:
                    self.rules.remove(rule)
                return parse(rule.fault.removeprefix("sim-"))
        for word, name in KEY_WORDS:
            if word in record.key:
                seconds = _LIMITED.search(record.key)
                return parse(f"429-after-{seconds[1]}" if seconds else name)
        asked = _MODEL.search(record.model) or _REPLAY.search(record.model)
        if not asked:
            return Fault()
        fails, well, times = split_then_ok(asked[1])
        if times:
            used = (record.family, record.model, sim_id)
            self._uses[used] += 1
            return parse(fails if self._uses[used] <= times else well)
        return parse(fails)


def split_then_ok(name: str) -> tuple[str, str, int]:
    """The fault while it fails, what is left of it once well, how often it fails (0: always)."""
    fails, well, times = [], [], 0
    for part in name.split("+"):
        if passing := _THEN_OK.match(part):
            fails.append(passing["base"])
            times = int(passing["times"] or 1)
        else:
            fails.append(part)
            well.append(part)
    return "+".join(fails), "+".join(well), times


def parse(name: str) -> Fault:
    fault = Fault(name=name)
    for part in filter(None, name.split("+")):
        _read_part(fault, part)
    return fault


def _read_part(fault: Fault, part: str) -> None:
    if refusal := _REFUSAL.match(part):
        status = int(refusal["status"])
        after = refusal["after"] or ("1" if status == 429 else "none")
        if after.startswith("date-") and after[5:].isdigit():
            after = formatdate(time.time() + int(after[5:]), usegmt=True)
        fault.refuse = Refusal(
            status,
            KINDS.get(status, "server" if status >= 500 else "bad_request"),
            None if after == "none" else after,
        )
    elif part == "quota":
        fault.refuse = Refusal(429, "quota")
    elif part.startswith("replay-"):
        fault.replay = part[len("replay-") :]
    elif part in _SWITCHES:
        setattr(fault, _SWITCHES[part], True)
    elif part == "split-bytes":
        fault.split = 1
    else:
        for word, field, default in _NUMBERED:
            number = part[len(word) + 1 :]
            if part == word and default is not None:
                setattr(fault, field, default)
                return
            if part.startswith(word + "-") and number.isdigit():
                setattr(fault, field, int(number))
                return
        fault.unknown = part


async def before_answer(request: Request, fault: Fault, dialect: Dialect) -> HTTPResponse | None:
    """What happens in place of an answer, or None when there shall be one (perhaps broken)."""
    if fault.unknown:
        known = "see app/simulator/faults.py"
        return HTTPResponse(f"The simulator knows no fault {fault.unknown!r}; {known}.", 501)
    if fault.slow_first_ms >= 0:
        await asyncio.sleep(fault.slow_first_ms / 1000)
    if fault.hang:
        await forever()
    if fault.reset:
        await cut(request)
    if fault.refuse:
        return dialect.refuse(fault.refuse)
    if fault.html_status >= 0:
        return HTTPResponse(HTML, fault.html_status, content_type="text/html; charset=UTF-8")
    if fault.redirect:
        where = f"http://{request.headers.get('host', '127.0.0.1')}/elsewhere"
        return HTTPResponse(b"", 307, {"location": where})
    return None


async def send_events(
    request: Request,
    fault: Fault,
    events: Iterable[bytes],
    dialect: Dialect,
    *,
    headers: Headers = (),
    status: int = 200,
    content_type: str = SSE,
) -> HTTPResponse | None:
    """Streams whole events, each in a write of its own, broken the way the fault asks; then None.

    `events` may be a generator: nothing is kept. The last event is the wire's closing one.
    """
    record = record_of(request)
    record.is_stream = True
    outlet = await _Outlet.begin(request, fault, status, [*headers, ("content-type", content_type)])
    if fault.slow_event_ms >= 0:
        await outlet.write(b"")
        await asyncio.sleep(fault.slow_event_ms / 1000)
    for event in events:
        if record.events == fault.end_after:
            break
        await _break_off(request, fault, outlet, record.events)
        if record.events == fault.error_event:
            await outlet.put(dialect.error_event)
            break
        if record.events == fault.bad_json:
            await outlet.put(dialect.bad_event)
        if fault.comments:
            await outlet.put(b": ping\n\n")
        await outlet.put(event)
        record.events += 1
        if fault.drip_ms >= 0:
            await asyncio.sleep(fault.drip_ms / 1000)
        elif record.events % 16 == 0:
            await asyncio.sleep(0)  # others shall live, and a lost client be noticed
    else:
        # A number beyond the last event: everything is there but the end of the body.
        await _break_off(request, fault, outlet, max(fault.hang_after, record.events))
        if fault.cut_after > record.events or fault.cut_at_byte > record.sent_bytes:
            await cut(request)
        if fault.close_after > record.events:
            await shut(request)
    await outlet.end()
    return None


async def send_body(
    request: Request,
    fault: Fault,
    body: bytes,
    dialect: Dialect,
    *,
    headers: Headers = (),
    status: int = 200,
    content_type: str = "application/json",
) -> HTTPResponse | None:
    """Answers with a whole body, or with a broken one when the fault asks; then returns None."""
    record = record_of(request)
    if fault.error_event >= 0:
        body = dialect.error_body
    if fault.bad_json >= 0:
        body = body[: len(body) // 2]
    headers = [*headers, ("content-type", content_type)]
    if not fault.breaks_body:
        if len(body) > GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            headers += [("content-encoding", "gzip"), ("vary", "accept-encoding")]
        record.sent_bytes = len(body)
        return with_headers(HTTPResponse(body, status), headers)
    if not (fault.no_length or fault.chunked or fault.end_after >= 0):
        headers.append(("content-length", str(len(body))))
    outlet = await _Outlet.begin(request, fault, status, headers)
    if fault.slow_event_ms >= 0:
        await outlet.write(b"")
        await asyncio.sleep(fault.slow_event_ms / 1000)
    await _break_off(request, fault, outlet, 0)
    if max(fault.hang_after, fault.cut_after, fault.close_after, fault.end_after) > 0:
        await outlet.put(body[: len(body) // 2])
        await _break_off(
            request, fault, outlet, max(fault.hang_after, fault.cut_after, fault.close_after)
        )
    elif fault.drip_ms >= 0:
        for start in range(0, len(body), 16):
            await outlet.put(body[start : start + 16])
            await asyncio.sleep(fault.drip_ms / 1000)
    elif fault.end_after != 0:
        await outlet.put(body)
    await outlet.end()
    return None


async def _break_off(request: Request, fault: Fault, outlet: "_Outlet", done: int) -> None:
    stops = (fault.hang_after, fault.cut_after, fault.close_after)
    if fault.cut_at_byte != 0 and (done < 0 or done not in stops):
        return
    if not record_of(request).sent_bytes:
        await outlet.write(b"")  # the headers at least
    if done == fault.hang_after:
        await forever()
    if done == fault.close_after:
        await shut(request)
    await cut(request)


class _Outlet:
    """Where the bytes of a body go: through Sanic, or bare when Sanic would add a framing."""

    def __init__(self, request: Request, fault: Fault) -> None:
        self._request = request
        self._fault = fault
        self._record = record_of(request)
        self._response: HTTPResponse | None = None

    @classmethod
    async def begin(
        cls, request: Request, fault: Fault, status: int, headers: Headers
    ) -> "_Outlet":
        outlet = cls(request, fault)
        if fault.no_length:
            outlet._record.status = status
            await send_raw(request, raw_head(status, [*headers, ("connection", "close")]))
        else:
            outlet._response = await request.respond(
                with_headers(HTTPResponse(None, status), headers)
            )
        return outlet

    async def put(self, data: bytes) -> None:
        """One event, or a piece of a body, under the faults that go by bytes."""
        fault, record = self._fault, self._record
        if fault.crlf:
            data = data.replace(b"\n", b"\r\n")
        is_last = 0 <= fault.cut_at_byte <= record.sent_bytes + len(data)
        if is_last:
            data = data[: fault.cut_at_byte - record.sent_bytes]
        step = fault.split if fault.split > 0 else len(data) or 1
        for start in range(0, len(data), step):
            await self.write(data[start : start + step])
            if fault.split > 0:
                await asyncio.sleep(0)  # so that each piece is a write to the socket
        if is_last:
            await cut(self._request)

    async def write(self, data: bytes) -> None:
        self._record.sent_bytes += len(data)
        if self._response is not None:
            await self._response.send(data, False)
        elif data:
            await send_raw(self._request, data)

    async def end(self) -> None:
        if self._response is not None:
            await self._response.eof()  # type: ignore[no-untyped-call]
        else:
            await shut(self._request, meaning="complete")


async def send_raw(request: Request, data: bytes) -> None:
    """Bytes on the wire as they are, for answers that Sanic would not write."""
    assert request.stream is not None
    await request.stream.protocol.send(data)  # type: ignore[no-untyped-call]


def raw_head(status: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def forever() -> None:
    """Silence. Ends when the client leaves, by cancellation."""
    await asyncio.Event().wait()


async def cut(request: Request) -> None:
    """Ends the connection with a reset, after every byte written so far has reached the peer."""
    await _delivered(request)
    record_of(request).if_lost = "cut"
    transport = request.transport
    # Linger zero turns the close into a reset, which no client can take for a proper end.
    peer: socket.socket = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()  # type: ignore[attr-defined]
    await forever()  # the lost connection cancels this handler


async def shut(request: Request, meaning: str = "cut") -> None:
    """Closes the connection in good order, wherever in the body this is."""
    await _delivered(request)
    record_of(request).if_lost = meaning
    request.transport.close()
    await forever()


async def _delivered(request: Request) -> None:
    transport = request.transport
    peer: socket.socket = transport.get_extra_info("socket")
    give_up = time.monotonic() + 5
    while time.monotonic() < give_up:
        waiting = transport.get_write_buffer_size()  # type: ignore[attr-defined]
        if not waiting:
            unacknowledged = fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
            if not any(unacknowledged):
                return
        await asyncio.sleep(0.001)


def with_headers(response: HTTPResponse, headers: Headers) -> HTTPResponse:
    """The response with its headers, repeated names kept (Set-Cookie comes twice)."""
    for name, value in headers:
        if name == "content-type":
            response.content_type = value
        else:
            response.headers.add(name, value)
    return response
