"""Mutation fuzzing of the Gemini decoder and request translator. Not collected by pytest.

    python -m tests.fuzz.gemini decoder 1000000
    python -m tests.fuzz.gemini request 1000000

Every case must end in events, in bytes that are JSON, or in a GatewayError; a decoder must say the
same however its bytes are split. The first case that does otherwise is printed with its seed.
"""

import copy
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from app.config.schema import Config
from app.wire.errors import GatewayError
from providers.gemini.api import PROVIDER
from tests.providers.gemini.calls import CALLERS, RECORDED, chunk, make_call, make_decoder, sse

OVERLOADED = (
    b'{\n  "error": {\n    "code": 503,\n    "message": "m",\n    "status": "UNAVAILABLE"\n  }\n}\n'
)

WORDS = [
    *(b"data: |\r\n|\n\n|\r\n\r\n|\r|: x\n|event: y\n|\xef\xbb\xbf|[DONE]".split(b"|")),
    *(b"{|}|[|]|,|:|\"|\\|null|true|-1|1e999|0.5|{}|[]|\"\"|\\ud800|\xff|\x00".split(b"|")),
    b'"text": ', b'"thought": true', b'"functionCall": {"name": "f"}', b'"finishReason": "STOP"',
    b'"index": 1', b'"error": {"code": 503}', b'"candidates": ', b'"promptFeedback": ',
    b'"blockReason": "X"', b'"usageMetadata": ', b'"args": ', b'"logprobsResult": ',
    OVERLOADED, b"[" * 2000,
]  # fmt: skip


def mutated(random_: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 3, 8))):
        at = random_.randrange(len(out) + 1)
        match random_.randrange(6):
            case 0:
                out[at:at] = random_.choice(WORDS)
            case 1:
                del out[at : at + random_.choice((1, 2, 10, 100))]
            case 2 if at < len(out):
                out[at] = random_.randrange(256)
            case 3:
                del out[at:]
            case 4:
                piece = out[at : at + random_.randrange(60)]
                out[random_.randrange(len(out) + 1) :][:0] = piece
                out += piece
            case _:
                out[at : at + random_.randrange(20)] = random_.choice(WORDS)
    return bytes(out)


def small(data: bytes) -> bytes:
    """Signatures and long thoughts only cost time here."""
    out = []
    for line in data.split(b"\n"):
        out.append(line if len(line) < 600 else line[:200] + line[-200:])
    return b"\n".join(out)


def decoder_seeds() -> list[bytes]:
    recorded = [
        small(path.read_bytes())
        for path in sorted(RECORDED.iterdir())
        if path.stat().st_size < 3000 and path.suffix in (".sse", ".json")
    ]
    made = [
        sse(chunk({"text": "a"}, {"text": "b", "thought": True}), chunk(finish="STOP")),
        sse(chunk({"functionCall": {"name": "f", "args": {"x": 1}}}, finish="STOP", index=1)),
        sse(chunk({"inlineData": {"mimeType": "image/png", "data": "AA=="}}, finish="OTHER")),
        sse(chunk({"executableCode": {"language": "PYTHON", "code": "1"}}, finish="STOP")),
        sse({"promptFeedback": {"blockReason": "SAFETY"}}),
        sse(chunk({"text": "a"})) + OVERLOADED,
        json.dumps([chunk({"text": "a"}), chunk(finish="STOP")]).encode(),
    ]
    return recorded + made


def outcome(pieces: list[bytes], stream: bool) -> Any:
    decoder, events = make_decoder(stream=stream), []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.finish()
    except GatewayError as error:
        assert error.status in range(400, 600), error.status
        return events, error.status, error.code
    return events


def fuzz_decoder(random_: random.Random, seeds: list[bytes]) -> None:
    data = mutated(random_, random_.choice(seeds))
    stream = random_.random() < 0.7
    whole = outcome([data], stream)
    a, b = sorted((random_.randrange(len(data) + 1), random_.randrange(len(data) + 1)))
    split = outcome([data[:a], data[a:b], data[b:]], stream)
    assert split == whole, f"split at {a} and {b}: {split} is not {whole}"


# Requests

NAMES = ["f", "do it", "x" * 100, "", "1", "é"]
VALUES: list[Any] = [
    None, True, 0, -1, 1, 0.5, 2**40, 10**30, "", "x", "\x00", "é", "\U0001f600", [], {}, [None],
    [{}], {"a": 1}, "auto", "none", "required", "high", "data:image/png;base64,AAAA", "data:,",
    "https://x.test/a.png", "http://[", "{", '{"a": 1}', "[1]", "gemini-3-pro-preview", "../x",
    "gemma-3", ["text", "image"], {"type": "json_object"}, {"type": "function"},
]  # fmt: skip

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REQUESTS: list[Any] = [
    {
        "model": "gemini-2.5-flash",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "{}"},
            {"role": "user", "content": "b"},
        ],
        "temperature": 1,
        "max_tokens": 5,
        "stop": ["a"],
        "seed": 1,
        "n": 1,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "extra_body": {"google": {"thinking_config": {"thinking_budget": 1}}},
        "generation_config": {"max_output_tokens": 1},
    },
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "x"},
        ],
        "functions": [{"name": "f"}],
        "function_call": {"name": "f"},
        "logprobs": True,
        "top_logprobs": 2,
        "gemini": {"index": "1"},
    },
]
NATIVES: list[Any] = [
    {
        "model": "gemini-2.5-flash",
        "contents": [{"role": "user", "parts": [{"text": "a"}]}],
        "systemInstruction": [{"parts": [{"text": "s"}]}, "t", {"text": "u"}],
        "generationConfig": {"temperature": 0},
    }
]


def mutated_tree(random_: random.Random, tree: Any) -> Any:
    """A copy with a few of its members replaced, removed or repeated."""
    tree = json.loads(json.dumps(tree))
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        node: Any = tree
        while isinstance(node, dict | list) and node:
            at = random_.choice(list(node) if isinstance(node, dict) else range(len(node)))
            below = node[at]
            if isinstance(below, dict | list) and below and random_.random() < 0.8:
                node = below
                continue
            match random_.randrange(4):
                case 0:
                    del node[at]
                case 1 if isinstance(node, list):
                    node.insert(random_.randrange(len(node) + 1), below)
                case _:
                    node[at] = copy.deepcopy(random_.choice(VALUES))
            break
    return tree


def fuzz_request(random_: random.Random, seeds: list[Any]) -> None:
    native = random_.random() < 0.15
    body = json.dumps(
        mutated_tree(random_, random_.choice(NATIVES if native else REQUESTS))
    ).encode()
    if random_.random() < 0.2:
        body = mutated(random_, body)
    try:
        call = make_call(body, native=native, key=CALLERS, config=CONFIG)
        PROVIDER.index(call.asked)
        own = PROVIDER.native
        assert own is not None and own.decoder is not None
        request = (own.request if native else PROVIDER.request)(call)
        (own.decoder if native else PROVIDER.decoder)(call)
    except GatewayError as error:
        assert error.status == 400, (error.status, error.message)
        assert error.message
        return
    assert isinstance(request.body, bytes)
    json.loads(request.body)  # numbers of any size are the upstream's to judge
    assert "?" not in request.url.replace("?alt=sse", "")


CONFIG = Config()


def main() -> None:
    what, count = sys.argv[1], int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    run: Callable[[random.Random, Any], None]
    run, seeds = (fuzz_decoder, decoder_seeds()) if what == "decoder" else (fuzz_request, REQUESTS)
    began = time.monotonic()
    for seed in range(first, first + count):
        started = time.monotonic()
        try:
            run(random.Random(seed), seeds)
        except BaseException:
            print(f"{what}: seed {seed} failed", file=sys.stderr)
            raise
        if time.monotonic() - started > 2:
            print(f"{what}: seed {seed} took {time.monotonic() - started:.1f} s", file=sys.stderr)
    print(f"{what}: {count} cases, no failure, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
