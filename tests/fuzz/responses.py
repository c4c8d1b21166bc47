"""Throws mutated bytes at all that reads and writes Responses. Not collected by pytest.

    python -m tests.fuzz.responses bodies 1000000 [seed]
    python -m tests.fuzz.responses answers 1000000 [seed]
    python -m tests.fuzz.responses upstream 1000000 [seed]

`bodies`: what callers send, read for models of OpenAI's chat wire, Gemini and Claude and, as bytes,
for OpenAI. `answers`: what an upstream of Responses answers, whole and split, as events and told
again to a caller of Responses. `upstream`: what other fronts send, for a model that speaks nothing
else. Each case must end in bytes that are JSON, in events, or in a GatewayError, one of 400 for a
caller's body.
"""

import json
import random
import sys
from typing import Any

import msgspec

from app.config.schema import Config
from app.engine.call import dropped_names, plan
from app.fronts.openai_responses.response import WholeResponse
from app.fronts.openai_responses.stream import ResponseStream
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.events import Finish, Started, Text
from app.wire.front import Front, Incoming
from app.wire.provider import Call, Key, Provider
from providers.claude.api import PROVIDER as CLAUDE
from providers.gemini.api import PROVIDER as GEMINI
from providers.openai.api import PROVIDER as OPENAI
from providers.openai.responses_decode import ResponsesDecoder
from tests import responses_types
from tests.calls import CHAT, FRONTS, answering, counted_ids
from tests.fronts.test_property import Given
from tests.fuzz import claude as chat_bodies
from tests.fuzz.bodies import run, small
from tests.fuzz.claude import altered
from tests.fuzz.gemini import mutated
from tests.fuzz.messages import REQUESTS as MESSAGES_BODIES
from tests.recorded import recorded

FRONT = FRONTS["openai-responses"]
assert OPENAI.variant is not None
ONLY_RESPONSES = OPENAI.variant.provider
# OpenAI's own provider takes these bodies as bytes; without that it translates them.
TARGETS = (
    (msgspec.structs.replace(OPENAI, also=()), "gpt-5"),
    (GEMINI, "gemini-2.5-flash"),
    (GEMINI, "gemini-3-pro"),
    (CLAUDE, "claude-sonnet-5"),
    (CLAUDE, "claude-3-opus-20240229"),
)


def _bodies() -> list[Any]:
    found = []
    for name in ("client-requests.json", "requests.json"):
        for call in json.loads((recorded("responses") / name).read_bytes()).values():
            body = call.get("body")
            if isinstance(body, dict) and isinstance(body.get("input"), list):
                found.append(small(body))
    return found


BODIES = _bodies()
STREAMS = [
    path.read_bytes()
    for path in sorted(recorded("responses").glob("*.sse"))
    if path.stat().st_size < 10_000
]


class _State:
    """As much of an engine's `CallState` as a plan reads."""

    def __init__(self, front: Front, asked: Asked) -> None:
        self.call, self.asked = self, asked
        assert front.read is not None
        self.chat = front.read(asked)

    def neutral(self) -> ChatRequest:
        return self.chat


def _sent(front: Front, asked: Asked, provider: Provider, model: str) -> None:
    state = _State(front, asked)
    call = Call(
        config=Config(),
        asked=asked,
        chat=plan(front, provider).read(state),  # type: ignore[arg-type]
        key=Key(provider.pool, "10001", "s3cret"),
        model=model,
        stream=asked.stream,
        headers={},
        now=1_780_000_000,
        new_id=counted_ids(),
    )
    json.loads(provider.request(call).body)
    dropped = dropped_names(state.chat, provider, front, call.dropped)
    assert all(name.isascii() and name.isprintable() for name in dropped), dropped
    answer = answering(asked=asked, chat=state.chat, new_id="0" * 32)
    if front is FRONT:  # what was asked is told again
        renderer = WholeResponse(answer, Given([Started("up", "m"), Text("a"), Finish("stop")]))
        renderer.feed(b"")
        json.loads(renderer.finish())


def _refused(error: GatewayError, front: Front) -> str:
    assert error.status == 400, (error.status, error.message)
    said = json.loads(front.error_body(error, "1"))
    assert said["error"]["message"], said
    return "400"


def _asked(raw: bytes, front: Front) -> Asked:
    path = front.routes[0].path if front.routes else "/"
    return front.glance(Incoming(path=path, params={}, query={}, headers={}, body=raw))


def check_body(chance: random.Random) -> list[str]:
    """What each target did with a caller's body: sent, or 400."""
    raw = altered(chance, BODIES, "input")
    outcomes = []
    for provider, model in TARGETS:
        try:
            _sent(FRONT, _asked(raw, FRONT), provider, model)
            outcomes.append("sent")
        except GatewayError as error:
            outcomes.append(_refused(error, FRONT))
    try:
        [native] = OPENAI.also
        bytes_sent = native.read(_asked(raw, FRONT))
        assert not _is_json(raw) or _is_json(bytes_sent), bytes_sent
        outcomes.append("native")
    except GatewayError as error:
        outcomes.append(_refused(error, FRONT))
    return outcomes


def check_upstream(chance: random.Random) -> list[str]:
    """What a model that speaks Responses alone is asked by other fronts."""
    front = CHAT
    raw = altered(chance, chat_bodies.REQUESTS)
    if chance.random() < 0.4:
        front, raw = FRONTS["anthropic"], altered(chance, MESSAGES_BODIES)
    try:
        _sent(front, _asked(raw, front), ONLY_RESPONSES, "gpt-9-pro")
        return ["sent"]
    except GatewayError as error:
        return [_refused(error, front)]


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _decoder() -> ResponsesDecoder:
    raw = b'{"model":"m","messages":[]}'
    asked = _asked(raw, CHAT)
    assert CHAT.read is not None
    call = Call(
        config=Config(),
        asked=asked,
        chat=CHAT.read(asked),
        key=Key("p", "1", "k"),
        model="m",
        stream=True,
        headers={},
        now=1,
        new_id=counted_ids(),
    )
    return ResponsesDecoder(call)


def _outcome(pieces: list[bytes]) -> tuple[list[Any], Any]:
    decoder, events = _decoder(), list[Any]()
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.finish()
    except GatewayError as error:
        assert error.status in range(400, 600), error.status
        return [], (error.status, error.code, error.message)
    return events, None


def check_answer(chance: random.Random) -> list[str]:
    """What an upstream's answer is read as; whole and in pieces it is the same."""
    data = mutated(chance, chance.choice(STREAMS))
    events, error = _outcome([data])
    a, b = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    split = _outcome([data[:a], data[a:b], data[b:]])
    assert split == (events, error), f"split at {a} and {b}: {split} is not {(events, error)}"
    if error is not None:
        return [f"error {error[0]}"]
    raw = b'{"model":"m","input":"Hi"}'
    asked = _asked(raw, FRONT)
    assert FRONT.read is not None
    told = answering(asked=asked, chat=FRONT.read(asked), new_id="0" * 32)
    renderer = ResponseStream(told, Given(events))
    try:
        responses_types.events_of(renderer.feed(b"") + renderer.finish())
    except GatewayError as refused:
        assert refused.code in ("invalid_prompt", "upstream_bad_response"), refused
        return ["filtered"]
    return ["told"]


CHECKS = {"bodies": check_body, "answers": check_answer, "upstream": check_upstream}


if __name__ == "__main__":
    run(CHECKS[sys.argv[1]], sys.argv[2:])
