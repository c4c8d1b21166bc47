"""Takes an answer out of the object that it was asked for in.

Schemas of lists, words and numbers are asked for as an object's one member, because other APIs take
schemas of objects only. A pure object between the upstream's text and the caller; however the text
is cut into pieces, the same comes out. A text that is no such object is told as it is.
"""

import re

MEMBER = "value"
_HEAD = re.compile(rf'\s*\{{\s*"{MEMBER}"\s*:\s*(?=\S)')
_BARE_HEAD = f'{{"{MEMBER}":'
_MAY_END = "} \t\r\n"  # of the object, or of a value that is one


class Unwrapper:
    """Tells the value of the one member."""

    def __init__(self) -> None:
        self._held = ""
        self._is_wrapped: bool | None = None  # None: the text may still begin as one

    def feed(self, text: str) -> str:
        """What may be told now."""
        text = self._held + text
        self._held = ""
        if self._is_wrapped is None:
            if head := _HEAD.match(text):
                self._is_wrapped = True
                text = text[head.end() :]
            elif _BARE_HEAD.startswith("".join(text.split())):
                self._held = text
                return ""
            else:
                self._is_wrapped = False
        if not self._is_wrapped:
            return text
        told = text.rstrip(_MAY_END)
        self._held = text[len(told) :]
        return told

    def rest(self) -> str:
        """What was held back, without the object's own end."""
        held, self._held = self._held, ""
        if self._is_wrapped and "}" in held:
            return held.rpartition("}")[0].rstrip()
        return held
