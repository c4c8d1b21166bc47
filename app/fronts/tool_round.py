"""Where in a conversation the round of tools begins that the answer will go on with.

A thought without a signature is given back within that round alone. Protocol sheets:
front-messages, 5.5; front-responses, 4.4; openai-compatible, 7.
"""

from collections.abc import Iterable


def current_round(asks: Iterable[bool]) -> int:
    """The index behind the last turn in which the user asks, 0 where none does. `asks` says of each
    turn whether the user does so there."""
    return max((at for at, is_question in enumerate(asks, 1) if is_question), default=0)
