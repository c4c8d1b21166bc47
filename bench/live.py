"""Both ends of a websocket under load: an upstream that streams frames, and a caller who counts.

The caller's message says how many frames come back, or how many of its own came before it. Frames
that are sent many times are written as bytes that were made once.
"""

import asyncio
import base64
import re
import time

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

SOUND = base64.b64encode(bytes(range(256)) * 19).decode()  # 100 ms of 24 kHz, 16 bits
EVENT = '{"type":"%s","event_id":"event_bench","response_id":"resp_bench","delta":"%s"}'
LAST = (
    '{"type":"response.done","event_id":"event_bench","response":{"id":"resp_bench","output":[],'
    '"usage":{"total_tokens":112,"input_tokens":12,"output_tokens":100}}}'
)
APPEND = '{"type":"input_audio_buffer.append","audio":"%s"}'
ASKED = re.compile(rb'"frames=(\d+) of (\w+) every (\d+) ms"')
HANDSHAKE = (
    "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)


def text_frame(text: str, mask: bool) -> bytes:
    """One frame as bytes."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=mask)


DELTAS = {
    b"text": text_frame(EVENT % ("response.output_text.delta", "a word "), mask=False),
    b"sound": text_frame(EVENT % ("response.output_audio.delta", SOUND), mask=False),
    b"none": b"",
}
DONE = text_frame(LAST, mask=False)


class LiveUpstream(asyncio.Protocol):
    """An accepted websocket: answers each message that asks for frames."""

    def __init__(self, transport, head: bytes):
        self.transport = transport
        self.protocol = ServerProtocol(state=OPEN, max_size=None)
        lines = head.split(b"\r\n")
        request = Request.parse(iter_lines([*lines, b""]))
        try:
            while True:
                next(request)
        except StopIteration as parsed:
            transport.write(self.protocol.accept(parsed.value).serialize())

    def data_received(self, data):
        """Answers what asks for frames."""
        self.protocol.receive_data(data)
        for frame in self.protocol.events_received():
            asked = ASKED.search(frame.data) if len(frame.data) < 200 else None
            if asked:
                self.answer(DELTAS[asked[2]], int(asked[1]), int(asked[3]) / 1000)
        for out in self.protocol.data_to_send():
            if out:
                self.transport.write(out)
            else:
                self.transport.close()

    def answer(self, frame, count, delay):
        """Writes the frames, `delay` seconds apart if it is not 0."""
        if not delay:
            self.transport.writelines([frame] * count)
            count = 0
        if not count:
            self.transport.write(DONE)
        elif not self.transport.is_closing():
            self.transport.write(frame)
            loop = asyncio.get_running_loop()
            loop.call_later(delay, self.answer, frame, count - 1, delay)


def iter_lines(lines):
    """A reader of lines as websockets' parser of requests wants one."""
    left = iter(lines)

    def read_line(limit, error):
        yield from ()
        return next(left) + b"\r\n"

    return read_line


class LiveCaller(asyncio.Protocol):
    """One websocket: asks again as soon as the last frame of an answer came."""

    def __init__(self, asked, results):
        self.results, self.is_open, self.seen, self.bytes = results, False, 0, 0
        headers = "".join(f"{name}: {value}\r\n" for name, value in asked["headers"].items())
        self.handshake = (HANDSHAKE % (asked["path"], headers)).encode()
        chunks, kind = asked["chunks"], asked["frames"]
        question = '{"type":"response.create","say":"frames=%d of %s every %d ms"}'
        if kind == "upward":
            sound = text_frame(APPEND % SOUND, mask=True)
            self.message = sound * chunks + text_frame(question % (0, "none", 0), mask=True)
            self.size = len(DONE)
        else:
            self.message = text_frame(question % (chunks, kind, asked["delay_ms"]), mask=True)
            self.size = chunks * len(DELTAS[kind.encode()]) + len(DONE)
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        """Sends the handshake."""
        self.transport = transport
        transport.write(self.handshake)
        self.began = time.monotonic()

    def data_received(self, data):
        """Counts an answer by its bytes, and looks at its end."""
        if not self.is_open:
            if not data.startswith(b"HTTP/1.1 101"):
                self.fail(data[:300].decode("latin-1"))
                return
            self.is_open, data = True, data.partition(b"\r\n\r\n")[2]
            self.ask()
            if not data:
                return
        self.bytes += len(data)
        if self.bytes < self.size:
            return
        now = time.monotonic()
        if self.bytes > self.size or not DONE.endswith(data[-20:]):
            self.fail(f"{self.bytes} of {self.size} bytes: {data[-100:]!r}")
            return
        self.results.ok += 1
        self.results.totals.append((now - self.began) * 1e3)
        self.results.firsts.append((now - self.began) * 1e3)
        self.ask()

    def ask(self):
        """Sends the next message, or leaves when the run is over."""
        if self.results.is_over():
            self.finish()
            return
        self.results.left -= 1
        self.began, self.bytes = time.monotonic(), 0
        self.transport.write(self.message)

    def fail(self, why):
        """Counts an error."""
        self.results.errors += 1
        self.results.samples.append(why)
        self.finish()

    def finish(self):
        """Closes the socket."""
        self.transport.close()
        if not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error):
        """Counts a connection that was lost before the end as an error."""
        if not self.done.done():
            self.fail(f"connection lost: {error!r}")
