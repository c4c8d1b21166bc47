"""Sends an answer to the client, intact or broken as its fault asks.

Each family gives a `Dialect`: its own bytes for refusals, broken events, and errors in a stream.
"""

import asyncio
import fcntl
import gzip
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus

from msgspec import Struct
from sanic import HTTPResponse, Request

from app.simulator.faults import Fault, Refusal
from app.simulator.ledger import record_of

Headers = Sequence[tuple[str, str]]
SSE = "text/event-stream; charset=utf-8"
GZIP_FROM_BYTES = 1000
HTML = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking</body></html>"
)


class Dialect(Struct, frozen=True, kw_only=True):
    """The bytes with which one family says its failures."""

    refuse: Callable[[Refusal], HTTPResponse]
    error_event: bytes  # one whole event
    error_body: bytes  # the same as a JSON body
    bad_event: bytes  # one whole event whose JSON is broken


async def before_answer(request: Request, fault: Fault, dialect: Dialect) -> HTTPResponse | None:
    """Acts out a fault that replaces the answer and returns its response, or returns None."""
    if fault.unknown:
        known = "see app/simulator/faults.py"
        return HTTPResponse(f"The simulator knows no fault {fault.unknown!r}; {known}.", 501)
    if fault.slow_first_ms >= 0:
        await asyncio.sleep(fault.slow_first_ms / 1000)
    if fault.hang:
        await hang()
    if fault.reset:
        await reset_connection(request)
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
    """Streams whole events, each in a write of its own, broken as the fault asks; returns None.

    `events` may be a generator: nothing is kept. The last event is the wire's closing one.
    """
    record = record_of(request)
    record.is_stream = True
    writer = await _BodyWriter.begin(
        request, fault, status, [*headers, ("content-type", content_type)]
    )
    if fault.slow_event_ms >= 0:
        await writer.write(b"")
        await asyncio.sleep(fault.slow_event_ms / 1000)
    for event in events:
        if record.events == fault.end_after:
            break
        await _stop_if_due(request, fault, writer, record.events)
        if record.events == fault.error_event:
            await writer.write_event(dialect.error_event)
            break
        if record.events == fault.bad_json:
            await writer.write_event(dialect.bad_event)
        if fault.comments:
            await writer.write_event(b": ping\n\n")
        await writer.write_event(event)
        record.events += 1
        if fault.drip_ms >= 0:
            await asyncio.sleep(fault.drip_ms / 1000)
        elif record.events % 16 == 0:
            await asyncio.sleep(0)  # lets other tasks run, and notices a lost client
    else:
        # A number beyond the last event: only the end of the body is missing.
        await _stop_if_due(request, fault, writer, max(fault.hang_after, record.events))
        if fault.cut_after > record.events or fault.cut_at_byte > record.sent_bytes:
            await reset_connection(request)
        if fault.close_after > record.events:
            await close_connection(request)
    await writer.end()
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
    """Sends a body, whole or broken as the fault asks; None when it was streamed."""
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
    writer = await _BodyWriter.begin(request, fault, status, headers)
    if fault.slow_event_ms >= 0:
        await writer.write(b"")
        await asyncio.sleep(fault.slow_event_ms / 1000)
    await _stop_if_due(request, fault, writer, 0)
    if max(fault.hang_after, fault.cut_after, fault.close_after, fault.end_after) > 0:
        await writer.write_event(body[: len(body) // 2])
        await _stop_if_due(
            request, fault, writer, max(fault.hang_after, fault.cut_after, fault.close_after)
        )
    elif fault.drip_ms >= 0:
        for start in range(0, len(body), 16):
            await writer.write_event(body[start : start + 16])
            await asyncio.sleep(fault.drip_ms / 1000)
    elif fault.end_after != 0:
        await writer.write_event(body)
    await writer.end()
    return None


async def _stop_if_due(request: Request, fault: Fault, writer: "_BodyWriter", done: int) -> None:
    """Hangs, closes or resets when the fault asks for it after `done` events."""
    stops = (fault.hang_after, fault.cut_after, fault.close_after)
    if fault.cut_at_byte != 0 and (done < 0 or done not in stops):
        return
    if not record_of(request).sent_bytes:
        await writer.write(b"")  # the headers at least
    if done == fault.hang_after:
        await hang()
    if done == fault.close_after:
        await close_connection(request)
    await reset_connection(request)


class _BodyWriter:
    """Writes a body: through Sanic, or raw when Sanic would add a framing."""

    def __init__(self, request: Request, fault: Fault) -> None:
        self._request = request
        self._fault = fault
        self._record = record_of(request)
        self._response: HTTPResponse | None = None

    @classmethod
    async def begin(
        cls, request: Request, fault: Fault, status: int, headers: Headers
    ) -> "_BodyWriter":
        writer = cls(request, fault)
        if fault.no_length:
            writer._record.status = status
            await send_raw(request, raw_head(status, [*headers, ("connection", "close")]))
        else:
            writer._response = await request.respond(
                with_headers(HTTPResponse(None, status), headers)
            )
        return writer

    async def write_event(self, data: bytes) -> None:
        """Writes one event or a piece of a body, under the faults that count bytes."""
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
            await reset_connection(self._request)

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
            await close_connection(self._request, meaning="complete")


async def send_raw(request: Request, data: bytes) -> None:
    """Writes bytes to the socket as they are, for answers that Sanic would not write."""
    assert request.stream is not None
    await request.stream.protocol.send(data)  # type: ignore[no-untyped-call]


def raw_head(status: int, headers: Headers) -> bytes:
    """The status line and headers of an answer that is written raw."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def hang() -> None:
    """Never returns; the lost connection cancels it."""
    await asyncio.Event().wait()


async def reset_connection(request: Request) -> None:
    """Resets the connection (TCP RST) after all bytes so far have reached the peer."""
    await _delivered(request)
    record_of(request).outcome_if_lost = "cut"
    transport = request.transport
    # Linger zero turns the close into a reset, which no client can take for a proper end.
    peer: socket.socket = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()  # type: ignore[attr-defined]
    await hang()  # the lost connection cancels this handler


async def close_connection(request: Request, meaning: str = "cut") -> None:
    """Closes the connection (FIN), wherever in the body this is."""
    await _delivered(request)
    record_of(request).outcome_if_lost = meaning
    request.transport.close()
    await hang()


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
    """Adds the headers to the response; repeated names stay repeated (Set-Cookie)."""
    for name, value in headers:
        if name == "content-type":
            response.content_type = value
        else:
            response.headers.add(name, value)
    return response
