"""Which tools the simulated models call, and with what: the same for every family.

An agent runs what a model calls, so no call is random: only what the request forces, or what the
last prompt names: `call get_weather`, `call get_weather with {"city": "Paris"} and
get_time`. The arguments are those of the prompt, else examples that fit the schema.
"""

import re
from typing import Any

import msgspec
from msgspec import Struct

from app.simulator.examples import arguments

_CALL = re.compile(r"(?i)\bcall\s+")
_NEXT = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_WITH = re.compile(r"\s+with\s+(?=\{)")
# What an agent program adds to its user's words.
_REMINDER = re.compile(r"(?s)<system-reminder>.*?</system-reminder>")
_JSON = msgspec.json.Decoder(dict[str, Any])


class Call(Struct, frozen=True):
    """A tool call: the name, and the arguments when the prompt gives them."""

    name: str
    given: dict[str, Any] | None = None  # the prompt's own arguments

    def arguments(self, schema: Any) -> dict[str, Any]:
        """The prompt's arguments, else examples that fit the schema."""
        return arguments(schema) if self.given is None else self.given


def choose(names: list[str], prompt: str, *, is_forced: bool, several: bool = True) -> list[Call]:
    """The calls of one answer.

    The first of `names` is called when a call is forced and the prompt names none.
    """
    calls = _named(names, _REMINDER.sub("", prompt)) if names else []
    if is_forced and names and not calls:
        calls = [Call(names[0])]
    return calls if several else calls[:1]


def _named(names: list[str], prompt: str) -> list[Call]:
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    quoted = re.compile(rf"[`'\"]?({either})(?![\w-])[`'\"]?")
    calls = []
    for begun in _CALL.finditer(prompt):
        at = begun.end()
        while name := quoted.match(prompt, at):
            given, at = _object_at(prompt, name.end())
            calls.append(Call(name[1], given))
            joint = _NEXT.match(prompt, at)
            if joint is None:
                break
            at = joint.end()
    return calls


def _object_at(prompt: str, at: int) -> tuple[dict[str, Any] | None, int]:
    """The JSON object behind ` with `, and where it ends; none, and where it began."""
    begun = _WITH.match(prompt, at)
    if begun is None:
        return None, at
    end = prompt.find("}", begun.end())
    while end >= 0:
        try:
            return _JSON.decode(prompt[begun.end() : end + 1]), end + 1
        except msgspec.DecodeError:
            end = prompt.find("}", end + 1)
    return None, at
