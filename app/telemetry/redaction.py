"""Keeps secrets out of logs and errors."""

import re
from base64 import b64encode
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from urllib.parse import quote

from app.wire.errors import GatewayError

_MIN, _SHORT = 4, 15  # lengths: what is no secret; what is one only as a whole


def _known(forms: list[str], text: str) -> int:
    """The length of the longest of the sorted forms that the text begins with, 0 for none."""
    end = len(forms)
    while end := bisect_right(forms, text, 0, end):
        before = forms[end - 1]
        if text.startswith(before):
            return len(before)
        # Whatever else the text begins with, this one does too.
        pairs = enumerate(zip(before, text, strict=False))
        text = text[: next((at for at, (one, other) in pairs if one != other), len(text))]
    return 0


def _forms(secret: str) -> set[str]:
    forms = {secret, quote(secret, safe=""), b64encode(secret.encode()).decode()}
    return {form for form in forms if len(form) >= _MIN}


_MOST_WORDS = 240
_PIECE = re.compile(r"[\w.-]*[*•…]+[\w.-]*")
_ROOM = 4 * 1024 * 1024  # characters; some thousand tokens of sessions
_FEW = 200
_START = 8  # so many characters of a secret say too much already
_MASKED = re.compile(r"[\w*•…+/=.-]*")  # how the rest of a quoted one may look


class Redactor:
    """Replaces every known secret in a text by `[secret]`, and what begins like one: upstreams
    quote keys as `sk-proj-abcd****wxyz`. Also as they stand in addresses and in base64.

    Time grows with the text and hardly with the secrets. What the config holds is never forgotten;
    of what came later (and of old configs) the newest `room` characters are known.
    """

    def __init__(self, secrets: Iterable[str] = (), room: int = _ROOM) -> None:
        self._room = room
        self._held: frozenset[str] = frozenset()
        self._known: dict[str, None] = {}  # the least recently learned first
        self._size = 0  # of those that may be forgotten
        self._uses: dict[str, int] = {}  # a form may be that of two secrets
        self._by_start: dict[str, list[str]] = {}  # each sorted
        self._longest = 0
        self._shorts: set[str] = set()
        self._short: re.Pattern[str] | None = None
        self.hold(secrets)

    def hold(self, secrets: Iterable[str]) -> None:
        """Those of the config."""
        before, self._held = self._held, frozenset(secrets)
        self._size += sum(map(len, before - self._held))
        self._size -= sum(len(secret) for secret in self._held - before if secret in self._known)
        self.learn(self._held)

    def learn(self, secrets: Iterable[str]) -> None:
        """Secrets that came later: renewed tokens, files of sessions."""
        for secret in secrets:
            if secret in self._known:
                del self._known[secret]
            else:
                self._add(secret)
                if secret not in self._held:
                    self._size += len(secret)
            self._known[secret] = None
        while self._size > self._room:
            oldest = next(iter(self._known))
            del self._known[oldest]
            if oldest in self._held:
                self._known[oldest] = None
            else:
                self._size -= len(oldest)
                self._remove(oldest)

    def _add(self, secret: str) -> None:
        for form in _forms(secret):
            self._uses[form] = self._uses.get(form, 0) + 1
            if self._uses[form] > 1:
                continue
            if len(form) > _SHORT:
                insort(self._by_start.setdefault(form[:_START], []), form)
                self._longest = max(self._longest, len(form))
            else:
                self._shorts.add(form)
                self._short = None

    def _remove(self, secret: str) -> None:
        for form in _forms(secret):
            self._uses[form] -= 1
            if self._uses[form]:
                continue
            del self._uses[form]
            if len(form) > _SHORT:
                forms = self._by_start[form[:_START]]
                del forms[bisect_left(forms, form)]
                if not forms:
                    del self._by_start[form[:_START]]
            else:
                self._shorts.remove(form)
                self._short = None

    def __call__(self, text: str) -> str:
        if self._shorts:
            if self._short is None:
                longest_first = sorted(self._shorts, key=len, reverse=True)
                self._short = re.compile("|".join(map(re.escape, longest_first)))
            text = self._short.sub("[secret]", text)
        starts = self._by_start
        if len(starts) < _FEW and not any(start in text for start in starts):
            return text
        # A look at each place, whatever the number of keys: one pattern of them all is far slower.
        found = [i for i in range(len(text) - _START + 1) if text[i : i + _START] in starts]
        if not found:
            return text
        out, done = [], 0
        for at in found:
            if at < done:
                continue
            known = _known(starts[text[at : at + _START]], text[at : at + self._longest])
            masked = _MASKED.match(text, at + max(known, _START))
            assert masked is not None
            out += [text[done:at], "[secret]"]
            done = masked.end() if not known else at + known
        return "".join([*out, text[done:]])

    def words(self, text: str) -> str:
        """What an upstream said of a key, fit for every caller: one short line, and no piece of a
        key in it, known or masked."""
        return _PIECE.sub("[secret]", self(" ".join(text[:_MOST_WORDS].split())))[:_MOST_WORDS]

    def clean(self, error: GatewayError) -> None:
        """Takes what an upstream quoted of a key out of an error that a caller will see."""
        error.message = self(error.message)
        error.code = self(error.code) if error.code else error.code
        error.headers = tuple((name, self(value)) for name, value in error.headers)
        if error.raw is not None:
            raw = error.raw.decode("utf-8", "surrogateescape")
            if (clean := self(raw)) != raw:
                error.raw = clean.encode("utf-8", "surrogateescape")


redact = Redactor()  # what this process knows; its loggers and its answers use it
