"""Throws mutated generateContent bodies at the Gemini front's readers and every translator behind.

    python -m tests.fuzz.gemini_front 1000000 [seed]

Each body goes to two models of OpenAI, two of Claude, to what counts tokens and makes embeddings,
and, as bytes, to Gemini. Each must end in bytes that are JSON, or in a GatewayError 400 of Google's
shape. Not collected by pytest.
"""

import json
import random
import sys
from collections.abc import Callable
from functools import partial

from app.config.schema import Config
from app.engine.call import dropped_names
from app.fronts.gemini.embeddings import openai_body
from app.fronts.gemini.request import read_counted
from app.wire.asked import Asked
from app.wire.errors import GatewayError
from app.wire.provider import Call, Key, Provider
from app.wire.token_estimate import prompt_tokens
from providers.claude.api import PROVIDER as CLAUDE
from providers.gemini.native_body import read_native
from providers.openai.api import PROVIDER as OPENAI
from tests.calls import counted_ids
from tests.fronts.gemini_calls import ARRAY, EVENTS, RECORDINGS, asked_of
from tests.fuzz.bodies import is_json, run, small
from tests.fuzz.claude import altered

TARGETS = (
    (OPENAI, "gpt-5"),
    (OPENAI, "gpt-4o"),
    (CLAUDE, "claude-sonnet-4-5"),
    (CLAUDE, "claude-opus-4-8"),
)
CONFIG = Config()
REQUESTS = [small(call["body"]) for call in RECORDINGS.values() if call["method"] == "POST"]
GENERATE, EMBED, BATCH = (
    f"/c/v1beta/models/m:{method}"
    for method in ("generateContent", "embedContent", "batchEmbedContents")
)


def check(chance: random.Random) -> list[str]:
    """What became of the body at each of them: sent, or 400."""
    raw = altered(chance, REQUESTS, "contents")
    ends: list[tuple[str, Callable[[Asked], None]]] = [
        *((GENERATE, partial(_translated, *target)) for target in TARGETS),
        (GENERATE, _counted),
        (GENERATE, _native),
        (EMBED, _embedded),
        (BATCH, _embedded),
    ]
    return [_ended(raw, path, use) for path, use in ends]


def _translated(provider: Provider, model: str, asked: Asked) -> None:
    assert EVENTS.read is not None
    chat = EVENTS.read(asked)
    call = Call(
        config=CONFIG,
        asked=asked,
        chat=provider.read(chat, asked),
        key=Key(provider.pool, "k1", "s3cret"),
        model=model,
        stream=asked.stream,
        headers={},
        now=1,
        new_id=counted_ids(),
    )
    json.loads(provider.request(call).body)  # type: ignore[arg-type]
    names = dropped_names(chat, provider, EVENTS, call.dropped)
    assert all(name.isascii() and name.isprintable() for name in names), names


def _counted(asked: Asked) -> None:
    assert prompt_tokens(read_counted(asked)) > 0


def _native(asked: Asked) -> None:
    native = read_native(asked)
    # What is broken where nobody looks passes as it is: Google refuses it.
    assert not is_json(asked.body) or is_json(native), native


def _embedded(asked: Asked) -> None:
    json.loads(openai_body(asked))


def _ended(raw: bytes, path: str, use: Callable[[Asked], None]) -> str:
    try:
        use(asked_of(raw, path))
    except GatewayError as error:
        assert error.status == 400, (error.status, error.message)
        said = json.loads(EVENTS.error_body(error, "1"))["error"]
        assert (said["code"], said["status"]) == (400, "INVALID_ARGUMENT") and said["message"], said
        assert json.loads(ARRAY.error_body(error, "1")) == [{"error": said}]
        return "400"
    return "sent"


if __name__ == "__main__":
    run(check, sys.argv[1:])
