"""Stop sequences for upstreams that cannot stop by themselves.

A pure object between an upstream's text and the caller: text in, text out until a stop sequence.
It holds back only what may still become one. However the text is cut into pieces, the same comes
out. Protocol sheet: front-messages, 5.4.
"""

import re
from collections.abc import Sequence


class StopCutter:
    """Ends a text before the first of these sequences; `matched` is the one that was found."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        first = "".join(re.escape(stop[0]) for stop in self._stops)
        self._begins = re.compile(f"[{first}]" if first else "(?!)")
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """What may be told now. Nothing more once `matched` is set."""
        if self.matched is not None:
            return ""
        if not self._held and not self._begins.search(text):
            return text
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # The one that is whole first; of those that end together, the one that began first.
            _, at, self.matched = min(found)
            self._held = ""
            return text[:at]
        keep = self._unsure(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was held back, when the text ends without a stop sequence."""
        held, self._held = self._held, ""
        return held

    def _unsure(self, text: str) -> int:
        """The length of the longest end of the text that begins a stop sequence."""
        longest = max(map(len, self._stops), default=1) - 1
        for begin in self._begins.finditer(text, max(len(text) - longest, 0)):
            end = text[begin.start() :]
            if any(stop.startswith(end) for stop in self._stops):
                return len(end)
        return 0
