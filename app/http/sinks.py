"""Where answers go: the caller's connection, for chat calls and for the reverse proxy."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sanic import HTTPResponse, Request
from sanic.response import BaseHTTPResponse

from app.accounting.call_files import MOST_OF_ONE
from app.http.responses import CORS, headers_for, request_id
from app.wire.renderer import JSON
from app.wire.upstream import Headers

_STREAM: Headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]


def _head(headers: Headers) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in headers)


# The lines of an answer that are always the same, by its content type, which may be an upstream's.
@lru_cache(64)
def _whole(content_type: str) -> bytes:
    return _head([("content-type", content_type), *CORS])


@lru_cache(64)
def _streamed(content_type: str) -> bytes:
    return _head([("content-type", content_type), *CORS, *_STREAM])


class ChatSink:
    """The exchange's way to the caller."""

    said: Sequence[bytes] = ()

    def __init__(self, request: Request, id_header: str = "", id_prefix: str = "") -> None:
        self._request = request
        http: Any = request.stream
        self._http = http
        self._id_header, self._id_prefix = id_header, id_prefix
        self.lookup: dict[str, str] | None = http.known.lookup if http.known is not None else None
        self.headers: Headers = []
        self.content_type = JSON
        self.started = False

    async def send(self, data: bytes) -> None:
        """Sends bytes, behind the response head at the first call. Waits for a slow caller."""
        if not self.started:
            self.started = True
            await self._http.begin(_streamed(self.content_type), self._all_headers(), data)
        else:
            await self._http.send(data, False)

    def write(self, data: bytes) -> bool:
        """Writes bytes without waiting; False when `drain` must be awaited next."""
        return bool(self._http.write_chunk(data))

    async def drain(self) -> None:
        """Waits until the caller has read enough for more to be written."""
        await self._http.protocol._can_write.wait()

    async def end(self) -> None:
        """Ends a response that was begun."""
        if self.started and self._http.send is not None:
            await self._http.send(b"", True)

    async def answer(self, body: bytes) -> None:
        """Sends a whole response."""
        await self._http.answer(_whole(self.content_type), self._all_headers(), body)

    def _all_headers(self) -> Headers:
        """The answer's headers behind our id of the request, under each of its names."""
        own = request_id(self._request)
        headers = [("x-request-id", own), *self.headers]
        name = self._id_header
        if name and all(known != name for known, _ in self.headers):  # else the upstream's own
            headers.append((name, self._id_prefix + own))
        return headers

    def abort(self) -> None:
        """Breaks the connection, so that the caller sees that the stream is not whole."""
        _abort(self._request)


class RecordedSink(ChatSink):
    """A ChatSink that remembers the start of what it sends, in `said`."""

    def __init__(self, request: Request, id_header: str = "", id_prefix: str = "") -> None:
        super().__init__(request, id_header, id_prefix)
        self._pieces: list[bytes] = []
        self.said = self._pieces
        self._left = MOST_OF_ONE

    async def send(self, data: bytes) -> None:
        """See ChatSink.send."""
        self._remember(data)
        await super().send(data)

    def write(self, data: bytes) -> bool:
        """See ChatSink.write."""
        self._remember(data)
        return super().write(data)

    async def answer(self, body: bytes) -> None:
        """See ChatSink.answer."""
        self._remember(body)
        await super().answer(body)

    def _remember(self, data: bytes) -> None:
        if self._left > 0:
            self._pieces.append(data[: self._left])
            self._left -= len(data)


class RawSink:
    """The caller's connection for the reverse proxy."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._out: BaseHTTPResponse | None = None
        self.started = False
        self.response: HTTPResponse | None = None

    async def start(self, status: int, headers: Headers, has_body: bool) -> None:
        """Sends the response head."""
        content_type = None
        kept = []
        for name, value in headers:
            if name == "content-type":
                content_type = value
            elif name != "content-length" or status not in (204, 304):
                kept.append((name, value))
        head = headers_for(self._request, kept)
        if not has_body:
            # respond() and eof() on HEAD raise inside Sanic: an ordinary empty answer instead.
            self.response = HTTPResponse(None, status, head, content_type)
            return
        self.started = True
        self._out = await self._request.respond(
            status=status, headers=head, content_type=content_type
        )
        if head.get("content-length") == "0":
            return
        await self._out.send(b"")

    async def send(self, data: bytes) -> None:
        """Sends a piece of the body. Waits for a slow caller."""
        assert self._out is not None
        await self._out.send(data)

    async def end(self) -> None:
        """Ends the body."""
        if self._out is not None and self._out.stream is not None:
            await self._out.send(end_stream=True)

    def abort(self) -> None:
        """Breaks the connection, so that the caller sees that the body is not whole."""
        _abort(self._request)


def _abort(request: Request) -> None:
    # Not by an exception: after the first byte Sanic would end a broken body as a whole one.
    transport = request.transport
    if transport is not None:
        transport.abort()  # type: ignore[attr-defined]
