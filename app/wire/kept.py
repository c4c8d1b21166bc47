"""Answers that are kept for the caller's next turn, and the ids that lead back to them.

An answer `resp_gw` + 32 hex digits is kept whole, with what was asked for it. The id of each of its
items has the same digits, so that it leads to its answer: `msg_gw` + the 32 digits + three for the
item's place. Protocol sheet: front-responses, 4.6 and 6.3.
"""

import re
from typing import Any

from msgspec import Raw, Struct

PREFIX = "resp_gw"
_ITEM = re.compile(r"[a-z]{2,4}_gw([0-9a-f]{32})([0-9a-f]{3})").fullmatch


class Kept(Struct):
    """One turn: the items that were asked, those answered, and the answer without them."""

    id: str
    parent: str | None  # the turn before it
    input: list[Raw]
    output: list[Raw]
    object: Raw  # without `output`
    session: dict[str, Any] = {}  # of a conversation that lives at the upstream


class Maker(Struct):
    """Who has given a kept answer: the key, and what goes on with the conversation upstream.

    `key_id` is "" for a caller's own key, `session` the provider's object as it was handed out.
    """

    pool: str
    key_id: str
    session: dict[str, Any] = {}


def response_id(digits: str) -> str:
    """The id of the answer with these 32 hex digits."""
    return PREFIX + digits


def item_id(prefix: str, digits: str, place: int) -> str:
    """The id of the answer's item at `place`, e.g. `msg` being its prefix."""
    return f"{prefix}_gw{digits}{place:03x}"


def item_place(id: str) -> tuple[str, int] | None:
    """The answer and the place of an item; None for an id that is not the gateway's."""
    found = _ITEM(id)
    return (PREFIX + found[1], int(found[2], 16)) if found else None


_OF_OPENAI = re.compile(r"[a-z]+_(0[0-9a-f]{15})[0-9a-f]{34}").fullmatch


def family_of(id: str) -> str:
    """What the ids of one chain of OpenAI's answers and of their items have in common.

    These are the first 16 hex digits; ids of before 2025-06 have nothing in common.
    """
    found = _OF_OPENAI(id)
    return found[1] if found else id
