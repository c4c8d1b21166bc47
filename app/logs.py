"""One line per call, and everything else that is logged, in JSON or text; secrets never.

Lines are collected for a moment and written together, on a thread of their own: a system call per
request would cost more than the line itself, and may wait for a reader. Prompts are never here, and
what the config knows as a secret is replaced wherever a message, an exception or a traceback holds
it.
"""

import asyncio
import logging
import re
import time
from base64 import b64encode
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from app.log_writer import writer_of
from app.wire.errors import GatewayError

_FLUSH_SECONDS = 0.05
_FEW = 200
_START = 8  # so many characters of a secret say too much already
_MIN, _SHORT = 4, 15  # lengths: what is no secret; what is one only as a whole
_ROOM = 4 * 1024 * 1024  # characters; some thousand tokens of sessions
_MASKED = re.compile(r"[\w*•…+/=.-]*")  # how the rest of a quoted one may look
_PIECE = re.compile(r"[\w.-]*[*•…]+[\w.-]*")
_MOST_WORDS = 240
_MAX_WRITE = 4096  # a pipe keeps writes up to this size whole when several workers share it


class Attempt(Struct, omit_defaults=True):
    """One try at an upstream that did not become the answer.

    `outcome` is the word of an Outcome; `next` says what followed: another key, another model, or
    that the caller was told. `ms` is how long it took.
    """

    provider: str
    model: str
    key_id: str
    status: int
    outcome: str
    code: str
    ms: float
    next: str = ""


OVERTAKEN = "overtaken"
LOST = "connection lost"


def unanswered(
    provider: str, model: str, key_id: str, began: float, outcome: str, then: str
) -> Attempt:
    """A try that nobody waits for any more; `began` as perf_counter() told it."""
    ms = round((time.perf_counter() - began) * 1000, 3)
    return Attempt(provider, model[:128], key_id, 0, outcome, "", ms, then)


def sent_again(provider: str, model: str, key_id: str, began: float) -> Attempt:
    """A try whose kept connection was lost at once, so that the client made it once more."""
    return unanswered(provider, model, key_id, began, LOST, "again")


class CallRecord(Struct, kw_only=True, omit_defaults=True):
    """What the log says of one call. Times in milliseconds.

    `attempts` counts the upstream calls; `tried` has those that failed, in order. The one that
    answered is described by the record itself.
    """

    time: str = ""
    request_id: str
    route: str
    provider: str = ""
    model: str = ""
    key_id: str = ""
    stream: bool = False
    attempts: int = 0
    status: int = 0
    first_event_ms: float | None = None
    total_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    upstream_request_id: str = ""
    code: str = ""
    outcome: str = ""
    tried: list[Attempt] = []
    unknown_events: int = 0


class CallLog:
    """The writer of call lines of one worker. `count` and `keep` are told of every call as well."""

    def __init__(
        self,
        form: str = "json",
        fd: int = 1,
        *,
        count: Callable[[CallRecord], None] | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self._json = form == "json"
        self._writer = writer_of(fd)
        self._count, self._keep = count, keep
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = (0, "")
        self.enabled = True

    def write(self, record: CallRecord) -> None:
        record.time = self._now()
        if self._count is not None:
            self._count(record)
        line = msgspec.json.encode(record)
        if self._keep is not None:
            self._keep(line)
        if not self.enabled:
            return
        if self._json:
            self._lines.append(line + b"\n")
        else:
            self._lines.append(_as_text(record))
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        pieces = []
        batch = b""
        for line in lines:
            if len(batch) + len(line) > _MAX_WRITE and batch:
                pieces.append(batch)
                batch = b""
            batch += line
        if batch:
            pieces.append(batch)
        self._writer.put(pieces)

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((now - second) * 1000):03d}Z"


def _as_text(record: CallRecord) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    when = fields.pop("time", "")
    words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
    return f"{when} call {words}\n".encode()


def _word(value: Any) -> str:
    text = str(value)
    if text and not re.search(r'[\s"=]', text):
        return text
    return msgspec.json.encode(text).decode()


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


def _forms(secret: str) -> set[str]:
    forms = {secret, quote(secret, safe=""), b64encode(secret.encode()).decode()}
    return {form for form in forms if len(form) >= _MIN}


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


redact = Redactor()  # what this process knows; its loggers and its answers use it


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self, form: str, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self._json, self._redact = form == "json", redact

    def format(self, record: logging.LogRecord) -> str:
        if not self._json:
            return self._redact(super().format(record))
        line: dict[str, Any] = {
            "time": self.formatTime(record, self.datefmt),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = self._redact(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


class _Handler(logging.Handler):
    """To stderr, without waiting for its reader."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = writer_of(2)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # Python's own way would print the arguments, secrets included
            told = {"name": record.name, "levelname": "ERROR", "levelno": logging.ERROR}
            what = f"a message cannot be written ({type(error).__name__})"
            line = self.format(logging.makeLogRecord(told | {"msg": what}))
        self._writer.put([line.encode("utf-8", "backslashreplace") + b"\n"])


def configure(level: str, form: str, secrets: frozenset[str]) -> None:
    """Sends every logger of this process through one redacting handler to stderr."""
    handler = _Handler()
    redact.hold(secrets)  # those of an old config are still known
    handler.setFormatter(_Formatter(form, redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("sanic", "sanic.root", "sanic.error", "sanic.server", "sanic.websockets"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level.upper())
    # Libraries below would log every request at info.
    for name in ("httpx", "httpcore", "websockets", "asyncio", "hpack"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    if level.lower() != "debug":
        logging.getLogger("sanic.root").setLevel(max(logging.WARNING, root.level))
