"""Redacts secrets in logs and errors."""

import re
from base64 import b64encode
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from urllib.parse import quote

from app.wire.errors import GatewayError

_MIN = 4  # shorter texts are not treated as secrets
_SHORT = 15  # up to this length a secret is redacted only as a whole
_START = 8  # the first characters of a longer secret, which are redacted by themselves
_CAPACITY = 4 * 1024 * 1024  # characters; some thousand session tokens
_FEW = 200  # below this number of different starts, a text without any is found faster by `in`
_MAX_MESSAGE = 240  # characters
_MASKED = re.compile(r"[\w*•…+/=.-]*")  # the rest of a quoted secret, masked or not
_MASKED_KEY = re.compile(r"[\w.-]*[*•…]+[\w.-]*")


class Redactor:
    """Replaces each known secret in a text by `[secret]`, plain, percent-encoded or in base64, and
    whatever begins like one: upstreams quote keys as `sk-proj-abcd****wxyz`.

    Time grows with the text and hardly with the number of secrets. The config's secrets are always
    known; of others, such as those of old configs, the newest up to `capacity` characters in sum.
    """

    def __init__(self, secrets: Iterable[str] = (), capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._config_secrets: frozenset[str] = frozenset()
        self._known: dict[str, None] = {}  # the least recently added first
        self._size = 0  # characters of the secrets that can be forgotten
        self._uses: dict[str, int] = {}  # form -> number of secrets that have it
        self._by_start: dict[str, list[str]] = {}  # first characters -> sorted long forms
        self._longest = 0
        self._shorts: set[str] = set()
        self._short: re.Pattern[str] | None = None  # built from `_shorts` when needed
        self.set_config_secrets(secrets)

    def set_config_secrets(self, secrets: Iterable[str]) -> None:
        """Sets the secrets that are never forgotten. Those of the config before become others."""
        before, self._config_secrets = self._config_secrets, frozenset(secrets)
        self._size += sum(map(len, before - self._config_secrets))
        self._size -= sum(
            len(secret) for secret in self._config_secrets - before if secret in self._known
        )
        self.learn(self._config_secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Adds secrets that are not in the config: renewed tokens, stored sessions."""
        for secret in secrets:
            if secret in self._known:
                del self._known[secret]
            else:
                self._add(secret)
                if secret not in self._config_secrets:
                    self._size += len(secret)
            self._known[secret] = None
        while self._size > self._capacity:
            oldest = next(iter(self._known))
            del self._known[oldest]
            if oldest in self._config_secrets:
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
        """The text without known secrets."""
        if self._shorts:
            if self._short is None:
                longest_first = sorted(self._shorts, key=len, reverse=True)
                self._short = re.compile("|".join(map(re.escape, longest_first)))
            text = self._short.sub("[secret]", text)
        starts = self._by_start
        if len(starts) < _FEW and not any(start in text for start in starts):
            return text
        # A look-up at each place: one pattern of all secrets is far slower.
        found = [i for i in range(len(text) - _START + 1) if text[i : i + _START] in starts]
        if not found:
            return text
        out, done = [], 0
        for at in found:
            if at < done:
                continue
            known = _longest_prefix(starts[text[at : at + _START]], text[at : at + self._longest])
            masked = _MASKED.match(text, at + max(known, _START))
            assert masked is not None
            out += [text[done:at], "[secret]"]
            done = masked.end() if not known else at + known
        return "".join([*out, text[done:]])

    def words(self, text: str) -> str:
        """An upstream's message, safe for every caller: one line of at most 240 characters, without
        secrets and without masked pieces of any key."""
        line = " ".join(text[:_MAX_MESSAGE].split())
        return _MASKED_KEY.sub("[secret]", self(line))[:_MAX_MESSAGE]

    def clean(self, error: GatewayError) -> None:
        """Redacts message, code, headers and raw body of an error in place."""
        error.message = self(error.message)
        error.code = self(error.code) if error.code else error.code
        error.headers = tuple((name, self(value)) for name, value in error.headers)
        if error.raw is not None:
            raw = error.raw.decode("utf-8", "surrogateescape")
            if (clean := self(raw)) != raw:
                error.raw = clean.encode("utf-8", "surrogateescape")


def _longest_prefix(forms: list[str], text: str) -> int:
    """The length of the longest of the sorted forms that the text begins with, 0 for none."""
    end = len(forms)
    while end := bisect_right(forms, text, 0, end):
        before = forms[end - 1]
        if text.startswith(before):
            return len(before)
        # Every other form that the text begins with is a prefix of this one too.
        pairs = enumerate(zip(before, text, strict=False))
        text = text[: next((at for at, (one, other) in pairs if one != other), len(text))]
    return 0


def _forms(secret: str) -> set[str]:
    """The secret as it appears in plain text, in URLs and in base64."""
    forms = {secret, quote(secret, safe=""), b64encode(secret.encode()).decode()}
    return {form for form in forms if len(form) >= _MIN}


redact = Redactor()  # of this process, for its logs and its answers
