"""The input of a custom tool, out of the JSON that stands around it.

The model is given a function with one text, so it writes `{"input": "..."}`; the caller is told the
text alone, piece by piece. Arguments of any other shape are the input as they stand. Protocol
sheet: front-responses, 4.6.
"""

import re

_OPENS = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_LONGEST_OPENING = 256  # a wrapper has few blanks
# Whole characters and escapes; a pair of surrogates is one.
_WHOLE = re.compile(
    r'(?:[^"\\]|\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4})*"
)
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!$|\\$|\\u[0-9a-fA-F]{0,3}$)")
_ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([0-9a-fA-F]{4})|\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL
)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class CustomInput:
    """Reads the arguments of one call. `feed` and `rest` joined are the input."""

    def __init__(self) -> None:
        self._held = ""
        self._is_open: bool | None = None  # None: not known yet whether it is the wrapper
        self._is_over = False  # the text has ended

    def feed(self, piece: str) -> str:
        """The next piece of the input."""
        if self._is_over:
            return ""
        self._held += piece
        if self._is_open is None:
            opening = _OPENS.match(self._held)
            if opening is not None:
                self._is_open = True
                self._held = self._held[opening.end() :]
            elif len(self._held) > _LONGEST_OPENING:
                self._is_open = False
        if not self._is_open:
            return ""
        told = []
        while True:
            end = _WHOLE.match(self._held).end()  # type: ignore[union-attr]  # it may be empty
            told.append(_decoded(self._held[:end]))
            self._held = self._held[end:]
            half = _HALF.match(self._held)
            if half is None:
                break
            told.append("\N{REPLACEMENT CHARACTER}")  # of a character
            self._held = self._held[half.end() :]
        self._is_over = self._held.startswith('"')
        return "".join(told)

    def rest(self) -> str:
        """What is left when the call ends: all of it, where there was no wrapper."""
        held, self._held = self._held, ""
        return "" if self._is_over else held


def _decoded(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(found: re.Match[str]) -> str:
    high, low, one, short = found.groups()
    if short is not None:
        return _SHORT.get(short, short)
    if one is not None:
        code = int(one, 16)
        return chr(code) if not 0xD800 <= code < 0xE000 else "\N{REPLACEMENT CHARACTER}"
    # `_WHOLE` lets only the second half of a pair follow the first.
    return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
