"""A small upstream that answers like OpenAI, Anthropic, Gemini, chatgpt.com and claude.ai.

`python -m bench.upstream PORT [CERT KEY]`. It writes each chunk on its own. The number of chunks,
the delay, and whether each chunk holds the time are in the text of the last message (ASKED), so
that any proxy passes them on.
"""

import asyncio
import json
import re
import ssl
import sys
import time

import uvloop

from bench.live import LiveUpstream
from bench.scenarios import PIECE, TEXT

ASKED = re.compile(rb"chunks=(\d+) delay_ms=(\d+) timed=(\d)")
MODEL = b"bench-model"


def openai(text: bytes) -> bytes:
    """One chunk of a chat completion."""
    return (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1750000000,'
        b'"model":"bench-model","service_tier":"default","system_fingerprint":"fp_bench",'
        b'"choices":[{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]}\n\n'
        % text
    )


def responses(text: bytes) -> bytes:
    """One output_text.delta event."""
    return (
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        b'"content_index":0,"delta":"%b","item_id":"msg_0bench","logprobs":[],"obfuscation":'
        b'"Zk3vQ0aTq","output_index":0,"sequence_number":7}\n\n' % text
    )


def response(kind: bytes, status: bytes, usage: bytes) -> bytes:
    """An event with the Response object."""
    return (
        b'event: response.%b\ndata: {"type":"response.%b","response":{"id":"resp_0bench","object":'
        b'"response","created_at":1750000000,"status":"%b","model":"bench-model","output":[],'
        b'"error":null,"incomplete_details":null,"usage":%b},"sequence_number":0}\n\n'
        % (kind, kind, status, usage)
    )


RESPONSES_ITEM = (
    b'event: response.output_item.%b\ndata: {"type":"response.output_item.%b","output_index":0,'
    b'"item":{"id":"msg_0bench","type":"message","status":"%b","role":"assistant","content":[]}}'
    b"\n\n"
)


def claude(text: bytes) -> bytes:
    """One content_block_delta event."""
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"%b"}}\n\n' % text
    )


def gemini(text: bytes, last: bool = False) -> bytes:
    """One chunk of streamGenerateContent."""
    ending = b'"finishReason": "STOP",' if last else b""
    return (
        b'data: {"candidates": [{"content": {"parts": [{"text": "%b"}],"role": "model"},%b'
        b'"index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 100,'
        b'"totalTokenCount": 112},"modelVersion": "bench-model","responseId": "bench"}\r\n\r\n'
        % (text, ending)
    )


def chatgpt(text: bytes) -> bytes:
    """One delta of chatgpt.com's encoding: a bare piece of the message's text."""
    return b'event: delta\ndata: {"v": "%b"}\n\n' % text


# chatgpt.com's delta encoding: the message, then bare pieces of its text, then a patch at its end.
CHATGPT_MESSAGE = (
    b'{"message": {"id": "%b", "author": {"role": "%b", "name": null, "metadata": {}}, '
    b'"create_time": 1750000000.5, "update_time": null, "content": {"content_type": "text", '
    b'"parts": ["%b"]}, "status": "%b", "end_turn": null, "weight": 1.0, "metadata": {"citations": '
    b'[], "model_slug": "bench-model", "default_model_slug": "auto", "parent_id": "u1", "pad": '
    b'"AAAAA"}, "recipient": "all", "channel": null}, "conversation_id": '
    b'"00000000-0000-4000-8000-0000000000c1", "error": null}'
)
CHATGPT_DELTA = b'event: delta\ndata: {"p": "", "o": "add", "v": %b, "c": %d}\n\n'
CHATGPT_BEFORE = (
    b'event: delta_encoding\ndata: "v1"\n\n'
    + CHATGPT_DELTA % (CHATGPT_MESSAGE % (b"s1", b"system", b"", b"finished_successfully"), 0)
    + CHATGPT_DELTA % (CHATGPT_MESSAGE % (b"a1", b"assistant", b"", b"in_progress"), 1)
    + b'event: delta\ndata: {"p": "/message/content/parts/0", "o": "append", "v": ""}\n\n'
)
CHATGPT_AFTER = (
    b'event: delta\ndata: {"p": "", "o": "patch", "v": [{"p": "/message/status", "o": "replace", '
    b'"v": "finished_successfully"}, {"p": "/message/end_turn", "o": "replace", "v": true}]}\n\n'
    b'data: {"type": "message_stream_complete", "conversation_id": "c1"}\n\ndata: [DONE]\n\n'
)
# Answers to the requests before the question, by the end of the path.
STEPS = {
    b"/chat-requirements": b'{"persona":"chatgpt-paid","token":"gAAAAABbench"}',
    b"/organizations": b'[{"uuid":"00000000-0000-4000-8000-00000000000a","capabilities":["chat"]}]',
    b"/chat_conversations": b'{"uuid":"00000000-0000-4000-8000-0000000000c2","name":""}',
}

BEFORE = {
    b"openai": openai(b"").replace(b'"content":""', b'"role":"assistant","content":""'),
    b"claude": b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_bench",'
    b'"type":"message","role":"assistant","model":"bench-model","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":12,"output_tokens":1}}}\n\nevent: content_block_start\ndata: '
    b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b"gemini": b"",
    b"chatgpt": CHATGPT_BEFORE,
}
BEFORE[b"claude-web"] = BEFORE[b"claude"]
BEFORE[b"responses"] = (
    response(b"created", b"in_progress", b"null")
    + response(b"in_progress", b"in_progress", b"null")
    + RESPONSES_ITEM % (b"added", b"added", b"in_progress")
)
AFTER = {
    b"openai": openai(b"")
    .replace(b'{"content":""}', b"{}")
    .replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    + b"data: [DONE]\n\n",
    b"claude": b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":100}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
    b"gemini": gemini(b"", last=True),
    b"chatgpt": CHATGPT_AFTER,
}
AFTER[b"claude-web"] = AFTER[b"claude"]
AFTER[b"responses"] = RESPONSES_ITEM % (b"done", b"done", b"completed") + response(
    b"completed",
    b"completed",
    b'{"input_tokens":12,"output_tokens":100,"total_tokens":112}',
)
CHUNK = {
    b"openai": openai,
    b"responses": responses,
    b"claude": claude,
    b"gemini": gemini,
    b"chatgpt": chatgpt,
    b"claude-web": claude,
}
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
    """One connection: reads whole requests and answers each at once."""

    def connection_made(self, transport):
        """Begins with an empty buffer."""
        self.transport, self.buffer, self.task = transport, b"", None

    def data_received(self, data):
        """Collects a request and answers it when it is complete."""
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if b"upgrade: websocket" in head.lower():
            self.transport.set_protocol(LiveUpstream(self.transport, head))
            return
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        self.buffer = rest[size:]
        self.answer(head.split(b" ", 2)[1], rest[:size])

    def answer(self, path, body):
        """Answers a request, in the family that its path belongs to."""
        for end, step in STEPS.items():
            if path.endswith(end):
                self.json(step)
                return
        if path.endswith(b"/conversation"):
            family, body = b"chatgpt", body + b'"stream":true'
        elif path.endswith(b"/completion"):
            family, body = b"claude-web", body + b'"stream":true'
        else:
            family = (
                b"claude"
                if path.endswith(b"/messages")
                else b"responses"
                if path.endswith(b"/responses")
                else b"gemini"
                if b":" in path
                else b"openai"
            )
        streamed = b'"stream":true' in body or b'"stream": true' in body or b"alt=sse" in path
        if not streamed:
            self.json(WHOLE)
            return
        chunks, delay_ms, timed = map(int, ASKED.search(body).groups())
        self.task = asyncio.get_running_loop().create_task(
            self.stream(family, chunks, delay_ms / 1000, timed)
        )

    def json(self, body):
        """Writes a JSON answer."""
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )

    async def stream(self, family, chunks, delay, timed):
        """Writes a stream; `delay` is in seconds between chunks."""
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
        """Stops the stream."""
        if self.task is not None:
            self.task.cancel()


def framed(data):
    """The data as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def main():
    """Listens until it is stopped, with TLS when a certificate is given."""
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
