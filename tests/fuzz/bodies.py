"""What the fuzzers of fronts share: seeds that are short, and the loop."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any


def small(value: Any) -> Any:
    """The JSON value with its long texts cut: they only cost time here."""
    if isinstance(value, str):
        return value if len(value) < 400 else value[:200]
    if isinstance(value, list):
        return [small(each) for each in value]
    if isinstance(value, dict):
        return {name: small(member) for name, member in value.items()}
    return value


def is_json(data: bytes) -> bool:
    """Whether Python reads it as JSON."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def run(check: Callable[[random.Random], list[str]], arguments: Sequence[str]) -> None:
    """`check` as often as the command line's `arguments` say: a count, and perhaps a seed.

    It returns how each body ended.

    The first case that fails is named and ends the program.
    """
    count, seed = int(arguments[0]), arguments[1] if len(arguments) > 1 else "1"
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
