"""The most tokens each model may answer with, learned from its refusals in this worker."""

from collections import OrderedDict

_MOST_MODELS = 256
_limits: OrderedDict[str, int] = OrderedDict()


def within_limit(model: str, asked: int) -> int:
    """`asked`, or the limit of the model where that is known to be lower."""
    return min(asked, _limits.get(model, asked))


def remember_limit(model: str, limit: int) -> None:
    """Learns the limit of a model."""
    _limits[model] = limit
    if len(_limits) > _MOST_MODELS:
        _limits.popitem(last=False)
