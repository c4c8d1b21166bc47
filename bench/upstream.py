"""A small upstream that answers like OpenAI, Anthropic and Gemini, each chunk written on its own.

`python -m bench.upstream PORT [CERT KEY]`. Chunks, delay and whether to write the time into each
chunk come in the request body, as the member `bench`: {"chunks", "delay_ms", "timed"} inside the
text of the last message, so that any proxy hands it on.
"""

import asyncio
import json
import re
import ssl
import sys
import time

import uvloop

from bench.scenarios import PIECE, TEXT

ASKED = re.compile(rb"chunks=(\d+) delay_ms=(\d+) timed=(\d)")
MODEL = b"bench-model"


def openai(text: bytes) -> bytes:
    return (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1750000000,'
        b'"model":"bench-model","service_tier":"default","system_fingerprint":"fp_bench",'
        b'"choices":[{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]}\n\n'
        % text
    )


def claude(text: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"%b"}}\n\n' % text
    )


def gemini(text: bytes, last: bool = False) -> bytes:
    ending = b'"finishReason": "STOP",' if last else b""
    return (
        b'data: {"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"},%b'
        b'"index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 100,'
        b'"totalTokenCount": 112},"modelVersion": "bench-model","responseId": "bench"}\r\n\r\n'
        % (text, ending)
    )


BEFORE = {
    b"openai": openai(b"").replace(b'"content":""', b'"role":"assistant","content":""'),
    b"claude": b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_bench",'
    b'"type":"message","role":"assistant","model":"bench-model","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":12,"output_tokens":1}}}\n\nevent: content_block_start\ndata: '
    b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b"gemini": b"",
}
AFTER = {
    b"openai": openai(b"")
    .replace(b'{"content":""}', b"{}")
    .replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    + b"data: [DONE]\n\n",
    b"claude": b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":100}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
    b"gemini": gemini(b"", last=True),
}
CHUNK = {b"openai": openai, b"claude": claude, b"gemini": gemini}
WHOLE = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1750000000,
        "model": "bench-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 100, "total_tokens": 112},
    }
).encode()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer, self.task = transport, b"", None

    def data_received(self, data):
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        self.buffer = rest[size:]
        self.answer(head.split(b" ", 2)[1], rest[:size])

    def answer(self, path, body):
        family = (
            b"claude" if path.endswith(b"/messages") else b"gemini" if b":" in path else b"openai"
        )
        streamed = b'"stream":true' in body or b'"stream": true' in body or b"alt=sse" in path
        if not streamed:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(WHOLE), WHOLE)
            )
            return
        chunks, delay_ms, timed = map(int, ASKED.search(body).groups())
        self.task = asyncio.get_running_loop().create_task(
            self.stream(family, chunks, delay_ms / 1000, timed)
        )

    async def stream(self, family, chunks, delay, timed):
        write, chunk = self.transport.write, CHUNK[family]
        write(STREAM_HEAD)
        if BEFORE[family]:
            write(framed(BEFORE[family]))
        due = time.monotonic()
        for n in range(chunks):
            if delay:
                due += delay
                await asyncio.sleep(max(due - time.monotonic(), 0))
            text = b"@%d@" % time.monotonic_ns() if timed else PIECE.format(n).encode()
            write(framed(chunk(text)))
        write(framed(AFTER[family]) + b"0\r\n\r\n")

    def connection_lost(self, error):
        if self.task is not None:
            self.task.cancel()


def framed(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


async def main():
    context = None
    if len(sys.argv) > 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Upstream, "127.0.0.1", int(sys.argv[1]), ssl=context, backlog=4096
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
