"""Throws mutated Messages bodies at the front's reader and every translator behind it.

    python -m tests.fuzz.messages 1000000 [seed]

Each body goes to two models of OpenAI, two of Gemini and, as bytes, to Claude. Each must end in
bytes that are JSON, or in a GatewayError 400 of Anthropic's shape. Not collected by pytest.
"""

import json
import random
import sys
import time
from collections import Counter
from typing import Any

from app.wire.errors import GatewayError
from providers.claude.native_body import read_native
from providers.gemini.api import PROVIDER as GEMINI
from providers.openai.api import PROVIDER as OPENAI
from tests.fronts.messages_calls import MESSAGES, asked_of, sent
from tests.fuzz.claude import altered
from tests.recorded import requests_of_clients

TARGETS = (
    (OPENAI, "gpt-5"),
    (OPENAI, "gpt-4o"),
    (GEMINI, "gemini-2.5-flash"),
    (GEMINI, "gemini-3-pro"),
)


def small(value: Any) -> Any:
    """Long texts only cost time here."""
    if isinstance(value, str):
        return value if len(value) < 400 else value[:200]
    if isinstance(value, list):
        return [small(each) for each in value]
    if isinstance(value, dict):
        return {name: small(member) for name, member in value.items()}
    return value


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
            outcomes.append(_refused(error))
    try:
        native = read_native(asked_of(raw))
        # What is broken where nobody looks passes as it is: Anthropic refuses it.
        assert not _is_json(raw) or _is_json(native), native
        outcomes.append("native")
    except GatewayError as error:
        outcomes.append(_refused(error))
    return outcomes


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _refused(error: GatewayError) -> str:
    assert error.status == 400, (error.status, error.message)
    said = json.loads(MESSAGES.error_body(error, "1"))
    assert said["type"] == "error" and said["error"]["message"], said
    return "400"


def main() -> None:
    count, seed = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "1"
    began, outcomes = time.monotonic(), Counter[str]()
    for at in range(count):
        try:
            outcomes.update(check(random.Random(f"{seed}/{at}")))
        except Exception:
            print(f"case {at} of seed {seed} fails", flush=True)
            raise
        if at % 1_000 == 999:
            print(f"{at + 1} bodies, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{count} bodies, {time.monotonic() - began:.0f} s: {dict(outcomes.most_common())}")


if __name__ == "__main__":
    main()
