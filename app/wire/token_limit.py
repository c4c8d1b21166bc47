"""The most tokens a model may answer with, as read from an upstream's refusal of more."""

import re
from collections import OrderedDict

_MOST_MODELS = 256
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


class AnswerLimits:
    """The most tokens each model may answer with, learned from its refusals in this worker."""

    def __init__(self) -> None:
        self._limits: OrderedDict[str, int] = OrderedDict()

    def within(self, model: str, asked: int) -> int:
        """`asked`, or the limit of the model where that is known to be lower."""
        return min(asked, self._limits.get(model, asked))

    def learn(self, model: str, refusal: str, asked: int | None) -> bool:
        """Whether the refusal of `asked` tokens names a lower limit, which is remembered."""
        limit = limit_in(refusal, asked) if asked else None
        if limit is None:
            return False
        self._limits[model] = limit
        if len(self._limits) > _MOST_MODELS:
            self._limits.popitem(last=False)
        return True
