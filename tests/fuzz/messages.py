"""Throws mutated Messages bodies at the front's reader and every translator behind it.

    python -m tests.fuzz.messages 1000000 [seed]

Each body goes to two models of OpenAI, two of Gemini and, as bytes, to Claude. Each must end in
bytes that are JSON, or in a GatewayError 400 of Anthropic's shape. Not collected by pytest.
"""

import json
import random
import sys

from app.wire.errors import GatewayError
from providers.claude.native_body import read_native
from providers.gemini.api import PROVIDER as GEMINI
from providers.openai.api import PROVIDER as OPENAI
from tests.fronts.messages_calls import MESSAGES, asked_of, sent
from tests.fuzz.bodies import is_json, run, small
from tests.fuzz.claude import altered
from tests.recorded import requests_of_clients

TARGETS = (
    (OPENAI, "gpt-5"),
    (OPENAI, "gpt-4o"),
    (GEMINI, "gemini-2.5-flash"),
    (GEMINI, "gemini-3-pro"),
)
REQUESTS = [small(call["body"]) for call in requests_of_clients().values()]


def check(chance: random.Random) -> list[str]:
    """What each target did: sent, or 400."""
    raw = altered(chance, REQUESTS)
    outcomes = []
    for provider, model in TARGETS:
        try:
            _, dropped, _ = sent(provider, raw, model)
            assert all(name.isascii() and name.isprintable() for name in dropped), dropped
            outcomes.append("sent")
        except GatewayError as error:
            outcomes.append(refused(error))
    try:
        native = read_native(asked_of(raw))
        # What is broken where nobody looks passes as it is: Anthropic refuses it.
        assert not is_json(raw) or is_json(native), native
        outcomes.append("native")
    except GatewayError as error:
        outcomes.append(refused(error))
    return outcomes


def refused(error: GatewayError) -> str:
    """What a body that cannot be asked ends in: a 400 in Anthropic's shape."""
    assert error.status == 400, (error.status, error.message)
    said = json.loads(MESSAGES.error_body(error, "1"))
    assert said["type"] == "error" and said["error"]["message"], said
    return "400"


if __name__ == "__main__":
    run(check, sys.argv[1:])
