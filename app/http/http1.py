"""Sanic's HTTP/1.1 with strict chunk framing and one write per response."""

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from sanic.exceptions import (
    BadRequest,
    RequestCancelled,
)
from sanic.headers import _HTTP1_STATUSLINES
from sanic.helpers import has_message_body
from sanic.http import Http, Stage

from app.http.head_cache import KnownHead, recognise
from app.http.head_check import MAX_CHUNK_LINE, is_good_chunk_line

if TYPE_CHECKING:
    from app.http.connection import Protocol


_NO_BREAKS = str.maketrans("", "", "\r\n\0")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CONNECTION = {True: b"connection: keep-alive", False: b"connection: close"}


class StrictHttp(Http):
    """Sanic's HTTP/1.1 with strict chunk framing and one write per response.

    Sanic's own takes any two bytes for the end of a chunk and 0x5 for a length, and sends chunks to
    callers of HTTP/1.0.
    """

    __slots__ = ("is_chunked", "known")

    def __init__(self, protocol: "Protocol") -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        self.known: KnownHead | None = None  # by which the current request was recognised
        self.is_chunked = True  # how an answer of unknown length is framed; else closing ends it
        # Sanic does it later, but `check_timeouts` reads these fields at once.
        self.init_for_request()  # type: ignore[no-untyped-call]

    async def http1_request_header(self) -> None:
        """Parses the next head, unless it is the one before again."""
        protocol: Any = self.protocol
        known: KnownHead | None = protocol.current_head()
        if known is None or not recognise(self, known):
            self.known = None
            await super().http1_request_header()  # type: ignore[no-untyped-call]
            if self.request.version == "1.0":
                self.expecting_continue = False  # it has no interim responses

    async def whole_body(self) -> bytes:
        """The request's body, without joining pieces where all of it has already come."""
        http: Any = self
        left, buffer = http.request_bytes_left, self.recv_buffer
        if (
            http.request_body is True
            and not self.expecting_continue
            and len(buffer) >= left
            and http.request_bytes == left <= http.request_max_size
        ):
            body = bytes(buffer[:left])
            del buffer[:left]
            http.request_bytes_left, http.request_body = 0, None
            http.protocol.listen()
            return body
        return b"".join([data async for data in self])

    async def answer(self, head: bytes, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Sends a complete non-HEAD response in one write.

        `head` is its status line and the headers that are always the same.
        """
        http: Any = self
        http.response_func, http.request.responded = None, True
        keep = _CONNECTION[self.keep_alive]
        await self._send(
            b"%b%bcontent-length: %d\r\n%b\r\n\r\n%b"
            % (head, _lines(headers), len(body), keep, body)
        )
        self.stage = Stage.IDLE

    async def begin(self, head: bytes, headers: Iterable[tuple[str, str]], data: bytes) -> None:
        """Sends the head of a response of unknown length with its first piece, in one write."""
        http: Any = self
        http.request.responded = True
        framing = self._unknown_length()
        keep = _CONNECTION[self.keep_alive]
        self.stage = Stage.RESPONSE
        if self.is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._send(b"%b%b%b%b\r\n\r\n%b" % (head, _lines(headers), framing, keep, data))

    def _unknown_length(self) -> bytes:
        """Chooses chunks or closing as the end of the response; returns the framing header."""
        http: Any = self
        self.is_chunked = http.request.version != "1.0"
        if self.is_chunked:
            http.response_func = self.http1_response_chunked
            return b"transfer-encoding: chunked\r\n"
        http.response_func, self.keep_alive = self._until_close, False
        return b""

    async def _until_close(self, data: bytes, end_stream: bool) -> None:
        if data:
            await self._send(data)
        if end_stream:
            http: Any = self
            http.response_func, self.stage = None, Stage.IDLE

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Sends the response's head and `data` in one write."""
        http: Any = self  # Sanic's types do not say that its fields may be None
        answer: Any = self.response
        if not data and getattr(answer, "body", None):
            data, end_stream = answer.body, True
        status, headers, size = answer.status, answer.headers, len(data)
        if not isinstance(status, int) or not 200 <= status < 1000:
            raise RuntimeError(f"Invalid response status {status!r}")
        http.response_func = None
        self.response_size = size
        framing = b""
        has_body = has_message_body(status)  # type: ignore[no-untyped-call]
        if not has_body:
            if data or not end_stream or "content-length" in headers:
                data, end_stream = b"", True
                headers.pop("content-length", None)
        elif "content-length" in headers and (self.head_only or not end_stream):
            if not self.head_only:
                self.response_bytes_left = int(headers["content-length"]) - size
                http.response_func = self.http1_response_normal
        elif end_stream:
            headers.pop("content-length", None)
            if size or not self.head_only:  # a forwarded HEAD: an unknown length is not 0
                framing = b"content-length: %d\r\n" % size
        else:
            framing = self._unknown_length()
            if self.is_chunked:
                data = b"%x\r\n%b\r\n" % (size, data) if size else b""
        if self.head_only:
            data = b""
            http.response_func = self.head_response_ignored
        if has_body and answer.content_type and "content-type" not in headers:
            headers["content-type"] = answer.content_type
        out = b"%b%b%b%b\r\n\r\n%b" % (
            _HTTP1_STATUSLINES[status],
            _lines(headers.items()),
            framing,
            _CONNECTION[self.keep_alive],
            data,
        )
        if self.expecting_continue:
            self.expecting_continue = False
            if status != 417:
                out = _CONTINUE + out
        await self._send(out)
        self.stage = Stage.IDLE if end_stream else Stage.RESPONSE

    def write_chunk(self, data: bytes) -> bool:
        """Writes one chunk; False above the high-water mark: await drain."""
        protocol: Any = self.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise RequestCancelled
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)
        protocol._time = monotonic()
        return not protocol._paused_at

    async def read(self) -> bytes | None:
        """The next piece of the request body, None at its end. Checks each chunk line."""
        http: Any = self
        if http.request_body == "chunked" and http.request_bytes_left == 0:
            await self._check_chunk_line()
        data = await super().read()
        if http.request_body is None or (http.request_body is True and not http.request_bytes_left):
            http.protocol.listen()
        return data

    def create_empty_request(self) -> None:
        """Stands in for a request that could not be parsed, so that it can be answered."""
        # Sanic would parse the same address again, and fail again.
        self.url = None
        super().create_empty_request()

    async def _check_chunk_line(self) -> None:
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(_CONTINUE)
        buffer = self.recv_buffer
        while (end := buffer.find(b"\r\n", 2)) < 0 and len(buffer) <= MAX_CHUNK_LINE:
            await self._receive_more()
        if end < 0 or not is_good_chunk_line(buffer[:end]):
            self.keep_alive = False
            raise BadRequest("Bad chunked encoding")


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
        text = "".join(line[:-2].translate(_NO_BREAKS) + "\r\n" for line in lines)
    return text.encode("utf-8", "surrogateescape")
