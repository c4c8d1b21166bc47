"""Throws broken input at the Claude translators, by the million: only GatewayError may come out.

    python -m tests.fuzz.claude decoder 1000000 [seed]
    python -m tests.fuzz.claude request 1000000 [seed]

`decoder` mutates recorded answers and cuts them at random; whatever the cuts, events and error must
be the same. `request` mutates chat requests; what goes up must keep Anthropic's own rules.
"""

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from app.config.schema import Config
from app.fronts.openai_chat.errors import error_body
from app.simulator.claude_rules import refusal_of
from app.wire.errors import GatewayError
from app.wire.events import Event, Finish, Started, ToolArguments, ToolCall
from app.wire.provider import Call, Key
from providers.claude.api import POOL, PROVIDER
from tests.calls import call_of

TESTS = Path(__file__).parents[1]
ANSWERS = [path.read_bytes() for path in sorted((TESTS / "recorded" / "claude").glob("api-*"))]
REQUESTS: list[Any] = [
    msgspec.json.decode(path.read_bytes())["openai"]
    for path in sorted((TESTS / "providers" / "claude" / "requests").glob("*.json"))
]
TOKENS = [
    b"\n\n", b"\n", b"\r\n", b"\r", b"data: ", b"event: ", b": x\n", b"{", b"}", b"[", b"]", b'"',
    b",", b"null", b"-1", b"1e999", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\x00", b'"type":',
    b'"index":0,', b'"text_delta"', b'"input_json_delta"', b'"tool_use"', b'"thinking"',
    b'"message_stop"', b'"error"', b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{}}}\n\n',
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**63, -(2**70), 0.5, 1e308, "", " ", "x", "é\u2028", "[]", "{}",
    '{"a":1}', "user", "assistant", "system", "tool", "function", "call_1", "a", "text",
    "image_url", "file", "required", "json_schema", "json_object", "none", "high", "data:,",
    "data:;base64,AAAA", "https://e.org/", [], {}, [[]], [{}], {"type": "function"},
    {"type": "text", "text": " "}, {"role": "tool", "tool_call_id": "a", "content": "x"},
    {"role": "assistant", "content": "x "}, {"role": "assistant", "function_call": {"name": "a"}},
    "claude-3-opus-20240229", "claude-3-7-sonnet-latest", "claude-opus-4-8", "claude-sonnet-4-5",
    "m", "\x00",
]  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 1, 3, 40)))
        put = chance.choice(
            (b"", chance.randbytes(1), chance.choice(TOKENS), data[at : at + chance.randrange(300)])
        )
        data = data[:at] + put + data[end:]
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)]
    return data


def call_for(body: bytes) -> Call:
    return call_of(PROVIDER, body, config=CONFIG, key=KEY, now=0, new_id=lambda: f"{COUNT():032x}")


COUNT = iter(range(10**12)).__next__
CONFIG, KEY = Config(), Key(POOL, "1", "sk-ant-api03-x")
USER = b'{"model":"m","messages":[{"role":"user","content":"x"}]'
SCHEMA = b'"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object"}}}'
ASKS = [
    call_for(USER + b',"stream":true}'),
    call_for(USER + b',"stream":true,"functions":[{"name":"a"}]}'),
    call_for(
        USER.replace(b'"m"', b'"claude-3-opus-20240229"') + b',"stream":true,' + SCHEMA + b"}"
    ),
]
WHOLE = call_for(USER + b"}")


def outcome(pieces: list[bytes], call: Call) -> tuple[list[Event], str]:
    decoder = PROVIDER.decoder(call)  # type: ignore[misc]
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.finish()
    except GatewayError as error:
        error_body(error)
        assert 400 <= error.status <= 599, error.status
        return events, f"{error.status} {error.code} {error.message}"
    return events, ""


def nameless(events: list[Event]) -> list[Event]:
    """Ids that had to be made up differ from run to run."""
    for event in events:
        if isinstance(event, Started | ToolCall):
            event.id = ""
    return events


def check_decoder(chance: random.Random) -> str:
    data = mutated(chance.choice(ANSWERS), chance)
    call = WHOLE if data[:1] == b"{" else chance.choice(ASKS)
    events, error = outcome([data], call)
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((1, 1, 2, 5))))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    again, error_again = outcome(pieces, call)
    msgspec.json.encode(events)
    assert nameless(again) == nameless(events), (pieces, events, again)
    assert error_again == error, (pieces, error, error_again)
    if events:
        assert isinstance(events[0], Started) or type(events[0]).__name__ == "Unknown"
    finishes = sum(isinstance(event, Finish) for event in events)
    assert finishes == 1 if not error else finishes <= 1
    tools = 0
    for event in events:
        if isinstance(event, ToolCall):
            assert event.tool == tools
            tools += 1
        elif isinstance(event, ToolArguments):
            assert event.tool < tools
    return error.split(" ")[0] or "whole"


def copied(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        found.append((node, key))
        places(value, found)
    return found


def altered(chance: random.Random, requests: list[Any], turns: str = "messages") -> bytes:
    """A body of `requests` with members gone, doubled, moved, from another one, or odd.

    `turns` is the member that holds the conversation.
    """
    body = copied(chance.choice(requests))
    other = chance.choice(requests)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        spots = places(body, [])
        if not spots:
            break
        node, key = chance.choice(spots)
        donor, donor_key = chance.choice(places(other, []))
        match chance.randrange(6):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.insert(chance.randrange(len(node) + 1), copied(node[key]))
            case 2:
                node[key] = copied(donor[donor_key])
            case 3 if isinstance(body.get(turns), list) and isinstance(other.get(turns), list):
                turn = copied(chance.choice(other[turns]))
                body[turns].insert(chance.randrange(len(body[turns]) + 1), turn)
            case 4:
                body[donor_key if isinstance(donor_key, str) else "stop"] = copied(
                    chance.choice(VALUES)
                )
            case _:
                node[key] = copied(chance.choice(VALUES))
    raw = msgspec.json.encode(body)
    if chance.random() < 0.15:
        raw = mutated(raw, chance)
    return raw


def check_request(chance: random.Random) -> str:
    raw = altered(chance, REQUESTS)
    try:
        call = call_for(raw)
        request = PROVIDER.request(call)
        assert isinstance(request.body, bytes)
    except GatewayError as error:
        error_body(error)
        assert error.status == 400, error.status
        return "400"
    # Wrong values of the caller are Anthropic's to refuse; shape and order are ours.
    problem = refusal_of(request.body, signatures=False)
    assert problem is None or problem.about == "values", (problem, raw, request.body)
    assert all(name.isascii() and name.isprintable() for name in call.dropped)
    PROVIDER.session(call)
    return "sent"


def main(what: str, count: int, seed: int) -> None:
    check = {"decoder": check_decoder, "request": check_request}[what]
    began, outcomes = time.monotonic(), Counter[str]()
    for at in range(count):
        try:
            outcomes[check(random.Random(f"{seed}/{at}"))] += 1
        except Exception:
            print(f"case {at} of seed {seed} fails", flush=True)
            raise
    seconds = time.monotonic() - began
    print(f"{what}: {count} cases in {seconds:.0f} s, seed {seed}: {dict(outcomes.most_common())}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
