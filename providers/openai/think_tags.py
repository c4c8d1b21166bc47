"""Thinking that an answer begins with as tagged text: `<think>...</think>` becomes Reasoning.

Servers without a parser for thinking send it so: Together, vLLM, llama.cpp and others. Only the
beginning of an answer is looked at: a tag in the middle, and a closing tag alone, are text.
"""

from collections.abc import Iterator
from enum import IntEnum

from app.wire.events import Reasoning, Text, TokenLogprob

_TAGS = ("<think>", "<thinking>")
_MAX_HELD = 256  # characters, nearly all of them blanks: models get stuck on line breaks


class _Stage(IntEnum):
    START = 0  # nothing but blanks so far, or part of a tag
    THINKING = 1
    CLOSED = 2  # behind the closing tag: one line break is part of it
    TEXT = 3


class ThinkTags:
    """Tells the thinking in the text of one choice from the answer, under every split.

    No more is held back than may be a tag: the beginning of one, and the blanks before it.
    """

    __slots__ = ("_closing", "_held", "_index", "_logprobs", "_stage")

    def __init__(self, index: int) -> None:
        self._index = index  # of the choice
        self._stage = _Stage.START
        self._closing = ""
        self._held = ""
        self._logprobs: list[TokenLogprob] = []  # of text that was not told yet

    @property
    def is_over(self) -> bool:
        """Whether all that follows is text."""
        return self._stage is _Stage.TEXT

    def feed(self, piece: Text) -> Iterator[Text | Reasoning]:
        """The piece as text, as thinking, or as some of both."""
        self._logprobs += piece.logprobs or ()
        text = self._held + piece.text
        self._held = ""
        if self._stage is _Stage.START:
            text = self._begin(text)
        if self._stage is _Stage.THINKING:
            thinking, closing, rest = text.partition(self._closing)
            if closing:
                self._stage, text = _Stage.CLOSED, rest
            else:
                self._held, text = _may_begin(thinking, self._closing), ""
                thinking = thinking[: len(thinking) - len(self._held)]
            self._logprobs = []  # thinking has no place for them
            if thinking:
                yield Reasoning(thinking, self._index)
        if self._stage is _Stage.CLOSED:
            if text in ("", "\r"):
                self._held = text
                return
            text = text.removeprefix("\r").removeprefix("\n")
            self._stage, self._logprobs = _Stage.TEXT, list(piece.logprobs or ()) if text else []
        if self._stage is _Stage.TEXT:
            yield from self._text(text)

    def rest(self) -> Iterator[Text | Reasoning]:
        """What is held back, at the end of the text. Text that comes later is not looked at."""
        stage, self._stage = self._stage, _Stage.TEXT
        held, self._held = self._held, ""
        if stage is _Stage.THINKING and held:
            yield Reasoning(held, self._index)
        elif stage is _Stage.START:
            yield from self._text(held)

    def _begin(self, text: str) -> str:
        """What of the beginning is not held back, once it is known what it is."""
        start = text.lstrip()
        for tag in _TAGS:
            if start.startswith(tag):
                self._stage, self._closing = _Stage.THINKING, f"</{tag[1:]}"
                return start[len(tag) :]
        if len(text) <= _MAX_HELD and any(tag.startswith(start) for tag in _TAGS):
            self._held = text
            return ""
        self._stage = _Stage.TEXT
        return text

    def _text(self, text: str) -> Iterator[Text]:
        if text or self._logprobs:
            yield Text(text, self._index, self._logprobs or None)
            self._logprobs = []


def _may_begin(text: str, tag: str) -> str:
    """The end of the text that may be the beginning of the tag."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:size]):
            return tag[:size]
    return ""
