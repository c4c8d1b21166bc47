"""The HTTP/1.1 codec: writes the head of a request, parses one response. No socket, no clock.

The head is parsed here and strictly, because its lengths decide where the next response begins:
whatever two parsers could understand differently is refused (RFC 9112, sections 2.2, 5, 6 and
11.2). Chunked bodies are decoded by httptools (llhttp), in C.

    HEAD ─► LENGTH ──► DONE        HEAD again after 100 to 199
         ├► CHUNKED ─► DONE        DONE at once for HEAD requests, 204 and 304
         └► TO_EOF ──► DONE        TO_EOF ends with the connection
"""

import re
from asyncio import Future
from collections.abc import AsyncIterator, Callable

from httptools import HttpParserError, HttpResponseParser
from msgspec import Struct

from app.clients.errors import bad_path
from app.wire.errors import GatewayError, bad_response, upstream_cut
from app.wire.upstream import Headers

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
MAX_INTERIM_ANSWERS = 32
# Chunk extensions, trailers and the like: how much may come without one byte of body.
MAX_FRAMING_BYTES = 64 * 1024
MAX_LENGTH_DIGITS = 18

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Names seen before, known to be tokens. Bounded, for an upstream may invent them without end.
_MAX_NAMES = 2048
_MAX_NAME_LENGTH = 64


# --- requests -------------------------------------------------------------------------------------

_PLAIN, _DROPPED, _HOST, _LENGTH, _CONNECTION, _EXPECT = range(6)
# Hop-by-hop headers are about a connection, and this one is ours (RFC 9110, section 7.6.1).
_KINDS = {
    "host": _HOST,
    "content-length": _LENGTH,
    "connection": _CONNECTION,
    "expect": _EXPECT,
    "transfer-encoding": _DROPPED,
    "keep-alive": _DROPPED,
    "proxy-connection": _DROPPED,
    "proxy-authorization": _DROPPED,
    "te": _DROPPED,
    "upgrade": _DROPPED,
}
_request_names: dict[str, int] = {}
_methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
_BREAKS = "\r\n\0"
_EXPECTS_BODY = {"POST", "PUT", "PATCH"}


class RequestHead(Struct):
    """The head of a request as it is sent, and what it declares."""

    data: bytes
    length: int  # of the body; -1: chunked
    expects_continue: bool


def request_head(
    method: str,
    target: str,
    host: str,
    headers: Headers,
    body: bytes | AsyncIterator[bytes] | None,
    extra: str = "",
) -> RequestHead:
    """Writes the head: the Host line first, then `headers`, then the framing that `body` needs.

    A Content-Length among `headers` counts for streamed bodies only; hop-by-hop headers are left
    out. `extra` is a whole header line or "". Raises GatewayError 400 `bad_path`, `bad_method` or
    `bad_header` for what could smuggle a second request into the first.
    """
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise bad_path("The path to forward holds spaces or control characters; percent-encode.")
    if method not in _methods and (method == "CONNECT" or not _TOKEN.fullmatch(method)):
        raise GatewayError(400, "This HTTP method cannot be forwarded.", code="bad_method")
    lines = [f"{method} {target} HTTP/1.1\r\n", f"Host: {host}\r\n"]
    declared = ""
    expects_continue = False
    for name, value in headers:
        kind = _request_names.get(name)
        if kind is None:
            kind = _learn_request_name(name)
        if kind == _PLAIN:
            lines.append(f"{name}: {value}\r\n")
        elif kind == _HOST:
            lines[1] = f"Host: {value}\r\n"
        elif kind == _LENGTH:
            declared = value
        elif kind == _CONNECTION:
            if value.strip().lower() == "close":
                lines.append("Connection: close\r\n")
        elif kind == _EXPECT:
            expects_continue = value.strip().lower() == "100-continue"
    if body is None or isinstance(body, bytes):
        length = len(body) if body else 0
        if length or method in _EXPECTS_BODY:
            lines.append(f"Content-Length: {length}\r\n")
    elif declared:
        length = _declared_length(declared)
        lines.append(f"Content-Length: {length}\r\n")
    else:
        length = -1
        lines.append("Transfer-Encoding: chunked\r\n")
    expects_continue = expects_continue and length != 0
    if expects_continue:
        lines.append("Expect: 100-continue\r\n")
    ends = len(lines) + extra.count("\n") + 1
    text = "".join((*lines, extra, "\r\n"))
    if text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
        raise _bad_header(f"{_culprit(headers, _BREAKS)} holds a line break or NUL.")
    try:
        return RequestHead(text.encode("latin-1"), length, expects_continue)
    except UnicodeEncodeError:
        which = _culprit(headers, "")
        raise _bad_header(
            f"{which} holds characters outside latin-1; percent-encode them."
        ) from None


def _declared_length(text: str) -> int:
    if not _is_length(text):
        raise _bad_header("The content-length header is not a number.")
    return int(text)


def _bad_header(message: str) -> GatewayError:
    return GatewayError(400, message, code="bad_header")


def _learn_request_name(name: str) -> int:
    if not _TOKEN.fullmatch(name):
        raise _bad_header("A header's name holds forbidden characters.")
    kind = _KINDS.get(name.lower(), _PLAIN)
    if len(_request_names) < _MAX_NAMES and len(name) <= _MAX_NAME_LENGTH:
        _request_names[name] = kind
    return kind


def _culprit(headers: Headers, forbidden: str) -> str:
    """Names the header at fault; never its value, which may be a credential."""
    for name, value in headers:
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            return f"The header {name!r}"
        if any(char in value for char in forbidden):
            return f"The header {name!r}"
    return "A header"


# --- responses ------------------------------------------------------------------------------------

_READ_HEAD, _READ_LENGTH, _READ_CHUNKED, _READ_TO_EOF, _DONE = range(5)
# A control character in a head is refused, whoever sent it; tab is the one exception.
_ALLOWED = bytes(c for c in range(256) if c == 9 or (c >= 32 and c != 127))
_VERSIONS = ("HTTP/1.1 ", "HTTP/1.0 ")
_FRAMING = {"content-length", "transfer-encoding", "connection", "keep-alive"}
_CHUNKED_PREFIX = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_response_names: dict[str, str] = {}
_MAX_STATUS_LINES = 128
_status_lines: dict[str, tuple[int, bool]] = {}


class ResponseReader:
    """Parses one response; `pieces` holds the bytes of the body that nobody took yet.

    The states are at the top of this file. Bytes after the end set `surplus`: the response is
    complete, but the connection must not carry another one.
    """

    __slots__ = (
        "_bodiless",
        "_framing_bytes",
        "_head",
        "_interim",
        "_left",
        "_parser",
        "_state",
        "_tail",
        "complete",
        "continued",
        "error",
        "has_head",
        "headers",
        "http_1_0",
        "idle_seconds",
        "keep_alive",
        "pieces",
        "started",
        "status",
        "surplus",
        "taker",
        "unread",
        "waiter",
    )

    def __init__(self, bodiless: bool = False) -> None:
        """`bodiless`: the request was HEAD, so that lengths promise nothing."""
        self.status = 0
        self.headers: Headers = []
        self.http_1_0 = False
        self.pieces: list[bytes] = []
        self.unread = 0  # bytes received for `pieces`, chunk framing included
        self.started = False  # any byte came
        self.continued = False  # 100 Continue came
        self.has_head = False
        self.complete = False
        self.surplus = False
        self.keep_alive = False
        self.idle_seconds: float | None = None  # how long the upstream keeps it open
        self.error: GatewayError | None = None  # set by the connection
        self.waiter: Future[bool | None] | None = None  # of whoever waits for this response
        self.taker: Callable[[bytes], bool] | None = None  # see TransportResponse.pump
        self._bodiless = bodiless
        self._state = _READ_HEAD
        self._head = b""
        self._interim = 0
        self._left = 0
        self._framing_bytes = 0
        self._tail = b""  # of a chunked body
        self._parser: HttpResponseParser | None = None

    def feed(self, data: bytes) -> None:
        """Parses the next bytes. Raises GatewayError 502 `upstream_bad_response`.

        After an error the reader and its connection must not be used any more.
        """
        state = self._state
        if state == _READ_CHUNKED:
            self._feed_chunked(data)
        elif state == _READ_LENGTH:
            left = self._left - len(data)
            if left <= 0:
                self._state = _DONE
                self.complete = True
                if left < 0:
                    self.surplus = True
                    data = data[:left]
            self._left = left
            self.pieces.append(data)
            self.unread += len(data)
        elif state == _READ_HEAD:
            self._feed_head(data)
        elif state == _READ_TO_EOF:
            self.pieces.append(data)
            self.unread += len(data)
        else:
            self.surplus = True

    def eof(self) -> None:
        """Ends the response with its connection. Raises `upstream_cut` if it was not complete."""
        if self._state == _READ_TO_EOF:
            self._state = _DONE
            self.complete = True
        elif self._state != _DONE:
            self._parser = None
            raise upstream_cut()

    def wake(self) -> None:
        """Resolves the future of whoever waits for this response."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def take(self) -> bytes:
        """Removes and returns all of the body that came since the last call."""
        pieces = self.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()  # never a new list: the chunk parser appends to this one
        self.unread = 0
        return data

    # called by the chunk parser

    def on_message_begin(self) -> None:
        """Sees a second message behind the response (httptools)."""
        if self.complete:
            self.surplus = True

    def on_message_complete(self) -> None:
        """Sees the end of the chunked body (httptools)."""
        self.complete = True

    def _feed_chunked(self, data: bytes) -> None:
        before = len(self.pieces)
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except HttpParserError as error:
            if not self.complete:
                self._parser = None
                raise bad_response("The upstream's chunked body is malformed.") from error
            self.surplus = True
        self._tail = data if len(data) >= 5 else (self._tail + data)[-5:]
        if self.complete:
            # llhttp skips line ends behind the last one, and reports nothing.
            if self._tail[-4:] != b"\r\n\r\n" or self._tail[-5] in b"\r\n":
                self.surplus = True
            self._tail = b""
            self._state = _DONE
            self._parser = None  # it holds our methods: without this a reference cycle is left
        elif len(self.pieces) == before:
            self._framing_bytes += len(data)
            if self._framing_bytes > MAX_FRAMING_BYTES:
                self._parser = None
                raise bad_response("The upstream's chunk extensions or trailers have no end.")
            return
        self._framing_bytes = 0
        self.unread += len(data)

    # the head

    def _feed_head(self, data: bytes) -> None:
        self.started = True
        if self._head:
            data = self._head + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > MAX_HEAD_BYTES:
                self._wait_for_head(data)
                return
            self._read_head(data[:end])
            data = data[end + 4 :]
            if self.status >= 200:
                break
            # 100, 102, 103 come before the response. 101 would switch the connection to a protocol
            # that nobody requested.
            self._interim += 1
            if self.status == 101 or self._interim > MAX_INTERIM_ANSWERS:
                raise bad_response("The upstream sent an unexpected interim answer.")
            self.continued = self.continued or self.status == 100
            self.headers = []
            if not data:
                self._head = b""
                return
        self._head = b""
        self.has_head = True
        if data:
            self.feed(data)

    def _wait_for_head(self, data: bytes) -> None:
        """Refuses at once what cannot become a head: its end might never come."""
        if not b"HTTP/1.".startswith(data[:7]):
            raise bad_response("The upstream does not answer in HTTP/1.")
        if len(data) > MAX_HEAD_BYTES:
            raise bad_response(f"The upstream's headers are larger than {MAX_HEAD_BYTES} bytes.")
        rest = data[:-1] if data.endswith(b"\r") else data
        if rest.translate(None, _ALLOWED) != b"\r\n" * rest.count(b"\r\n"):
            raise bad_response("The upstream's headers hold control characters or bare line ends.")
        self._head = data

    def _read_head(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        # Without the allowed characters only the line ends may be left, each a pair.
        if head.translate(None, _ALLOWED) != b"\r\n" * (len(lines) - 1):
            raise bad_response("The upstream's headers hold control characters or bare line ends.")
        if len(lines) > MAX_HEADERS + 1:
            raise bad_response(f"The upstream sent more than {MAX_HEADERS} headers.")
        known = _status_lines.get(lines[0])
        self.status, self.http_1_0 = known or _read_status_line(lines[0])
        headers = self.headers
        framing: Headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            lower = _response_names.get(name)
            if lower is None:
                lower = _learn_response_name(name)
            if not colon:
                raise bad_response("The upstream sent a header without a colon.")
            pair = (lower, value.strip(" \t"))
            headers.append(pair)
            if lower in _FRAMING:
                framing.append(pair)
        self._decide_framing(framing)

    def _decide_framing(self, framing: Headers) -> None:
        length, length_text = -1, ""
        chunked = False
        closes, keeps = False, not self.http_1_0
        for name, value in framing:
            if name == "content-length":
                for text in value.split(",") if "," in value else (value,):
                    text = text.strip(" \t")
                    if length_text and length_text != text:
                        raise bad_response("The upstream sent two different Content-Lengths.")
                    length_text, length = text, _length(text)
            elif name == "transfer-encoding":
                # The gateway accepts no other coding than chunked, and HTTP/1.0 does not know it.
                if chunked or self.http_1_0 or value.lower() != "chunked":
                    raise bad_response("The upstream's Transfer-Encoding cannot be trusted.")
                chunked = True
            elif name == "connection":
                for option in value.lower().split(","):
                    option = option.strip()
                    if option == "close":
                        closes = True
                    elif option == "keep-alive":
                        keeps = True
            else:
                self.idle_seconds = _keep_alive_timeout(value)
        if chunked and length >= 0:
            raise bad_response("The upstream sent both Content-Length and Transfer-Encoding.")
        if self.status < 200:
            return
        self.keep_alive = keeps and not closes
        if self._bodiless or self.status in (204, 304) or length == 0:
            self._state = _DONE
            self.complete = True
        elif chunked:
            self._state = _READ_CHUNKED
            self._parser = HttpResponseParser(_ChunkEvents(self))
            self._parser.feed_data(_CHUNKED_PREFIX)
        elif length > 0:
            self._state = _READ_LENGTH
            self._left = length
        else:
            self._state = _READ_TO_EOF
            self.keep_alive = False


class _ChunkEvents:
    """Callbacks for httptools. `on_body` is the list's own append: no Python runs per chunk."""

    __slots__ = ("on_body", "on_message_begin", "on_message_complete")

    def __init__(self, reader: ResponseReader) -> None:
        self.on_body = reader.pieces.append
        self.on_message_begin = reader.on_message_begin
        self.on_message_complete = reader.on_message_complete


def _read_status_line(line: str) -> tuple[int, bool]:
    code = line[9:12]
    if (
        line[:9] not in _VERSIONS
        or len(code) != 3
        or not (code.isascii() and code.isdigit())
        or code[0] == "0"
        or line[12:13] not in ("", " ")
    ):
        raise bad_response("The upstream does not answer in HTTP/1.")
    read = (int(code), line[7] == "0")
    if len(_status_lines) < _MAX_STATUS_LINES:
        _status_lines[line] = read
    return read


def _learn_response_name(name: str) -> str:
    # This also refuses a folded line (it begins with a space) and a space before the colon.
    if not _TOKEN.fullmatch(name):
        raise bad_response("The upstream sent a header whose name holds forbidden characters.")
    lower = name.lower()
    if len(_response_names) < _MAX_NAMES and len(name) <= _MAX_NAME_LENGTH:
        _response_names[name] = lower
    return lower


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS


def _length(text: str) -> int:
    if not _is_length(text):
        raise bad_response("The upstream's Content-Length is not a number.")
    return int(text)


def _keep_alive_timeout(value: str) -> float | None:
    """`timeout=5, max=100` as 4: a second less, so that the gateway closes first."""
    match = re.search(r"(?i)(?:^|[\s,;])timeout\s*=\s*(\d{1,9})(?![\d.])", value)
    return max(0.0, float(match[1]) - 1.0) if match else None
