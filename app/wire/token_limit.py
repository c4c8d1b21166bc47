"""The most tokens a model may answer with, as read from an upstream's refusal of more."""

import re

_NAMED = re.compile(r"max[_ ]?(?:completion|output|new)?[_ ]?tokens|maxOutputTokens", re.IGNORECASE)
_CONTEXT = re.compile(r"context", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.])(\d{2,9})(?![\d.]*\d)( \(exclusive\))?")


def limit_in(message: str, asked: int) -> int | None:
    """The limit below `asked` that the message names; None where it is about something else.

    A refusal that speaks of the context window is about the prompt as well: no limit for all.
    """
    if not _NAMED.search(message) or _CONTEXT.search(message):
        return None
    found = [int(number) - bool(excluded) for number, excluded in _NUMBER.findall(message)]
    return max((number for number in found if number < asked), default=None)
