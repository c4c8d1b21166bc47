"""Names of functions for upstreams that allow fewer characters in them than a caller has used.

One map per request and no memory: the same names give the same map, for the tools, the history, the
choice and back in the answer. Protocol sheet: front-messages, 4.3.
"""

import re
from collections.abc import Iterable
from hashlib import sha256

_MOST = 64
_ODD = re.compile(r"[^a-zA-Z0-9_-]")


class ToolNames:
    """The map between a caller's names and those of at most `most` signs `a-z A-Z 0-9 _ -`."""

    def __init__(self, names: Iterable[str] = (), most: int = _MOST) -> None:
        self._most = most
        self._sent: dict[str, str] = {}
        self.renamed: dict[str, str] = {}  # sent -> the caller's, only where they differ
        for name in names:
            self.sent(name)

    def sent(self, name: str) -> str:
        """The name to send for the caller's `name`; the same one at every call."""
        if name.isascii() and len(name) <= self._most and not _ODD.search(name):
            return name
        sent = self._sent.get(name)
        if sent is None:
            sent = self._sent[name] = shortened(name)
            self.renamed[sent] = name
        return sent


def shortened(name: str) -> str:
    """55 signs of the name and 8 of its hash, so that two long names stay two."""
    return f"{_ODD.sub('_', name)[:55]}_{sha256(name.encode()).hexdigest()[:8]}"
