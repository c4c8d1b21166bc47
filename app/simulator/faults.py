"""Every way an upstream can fail, by name; shared by all families.

delivery.py acts the faults out; this module reads their names and chooses one for each request.

The model names a fault: `sim-429`, `sim-cut-after-3`; several are joined by `+`, as in
`sim-long-50+drip-20`. A word in the key names one for that key alone (`sk-limited-1`).
POST /_sim/faults sets one for a key, path, family or model for the next M requests (an outage).
Order: rules set by POST, then the key, then the model.

Refusals, before the request is checked
    429, 401, 403, 402, 500, 503, 529 ...  any status from 400 to 599
    429-after-7        Retry-After: 7; after-date-7 says it as a date, after-soon as rubbish;
                       after-none leaves it out. Plain 429 says 1
    quota              429 insufficient_quota, no Retry-After
    html               200 with a web page; with a status: html-503
    redirect           307 to /elsewhere on this simulator
    hang               never answers; reset: closes the connection without a byte (TCP RST)
    slow-first-N       N ms before the headers; slow-event-N: N ms between headers and first event
Streams (N counts events; an answer that is not streamed breaks half way instead, 0 = at once)
    hang-after-N       N events, then silence          cut-after-N    N events, then TCP RST
    close-after-N      N events, then FIN in mid body  cut-at-byte-N  RST after N bytes of the body
    end-after-N        N events, then a clean end without the closing event
    error-event[-N]    an error object inside the 200 (after 2 events)
    bad-json[-N]       one event with broken JSON (after 2 events)
    drip[-MS]          one event per 50 ms             split-bytes, split-N   N bytes per write
    crlf, comments     CRLF line ends; a `: ping` comment before each event
    no-length          neither length nor chunks: the body ends with the connection
    chunked            chunks also where a Content-Length was due
Content
    big-N              N KB of text                    long-N         N pieces of text
    refusal            the model declines              replay-NAME    a recorded answer
Temporary faults
    429-then-ok, hang-times-3-then-ok ...  fails once (three times), then answers. Counted
    per family, whole model name and x-sim-id header, whatever the key, until POST /_sim/reset; a
    tag keeps tests apart: 500-then-ok-mytest
Words in a key
    limited[-N]  429 (Retry-After N)   dead  401    broken  500    quota  429 insufficient_quota
    forbidden  403   unpaid  402   overloaded  503   hanging  hang
"""

import re
import time
from collections import Counter
from collections.abc import Iterable
from email.utils import formatdate

from msgspec import Struct
from sanic import Request

from app.simulator.ledger import Record, record_of

KINDS = {
    400: "bad_request",
    401: "auth",
    402: "payment",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}
KEY_WORDS = (
    ("limited", "429"),
    ("dead", "401"),
    ("broken", "500"),
    ("quota", "quota"),
    ("forbidden", "403"),
    ("unpaid", "402"),
    ("overloaded", "503"),
    ("hanging", "hang"),
)
_MODEL = re.compile(r"(?:^|[/:-])sim-(.+)$")
_REPLAY = re.compile(r"(?:^|[/:])(replay-.+)$")
_THEN_OK = re.compile(r"(?P<base>.+?)(?:-times-(?P<times>\d+))?-then-ok(?:-(?P<tag>.+))?$")
_REFUSAL = re.compile(r"(?P<status>[45]\d\d)(?:-after-(?P<after>.+))?$")
_LIMITED = re.compile(r"limited-(\d+)")
# Faults with a number: name, field, the number when none is given.
_NUMBERED: tuple[tuple[str, str, int | None], ...] = (
    ("slow-first", "slow_first_ms", None),
    ("slow-event", "slow_event_ms", None),
    ("hang-after", "hang_after", None),
    ("cut-after", "cut_after", None),
    ("cut-at-byte", "cut_at_byte", None),
    ("close-after", "close_after", None),
    ("end-after", "end_after", None),
    ("error-event", "error_event", 2),
    ("bad-json", "bad_json", 2),
    ("drip", "drip_ms", 50),
    ("split", "split", None),
    ("html", "html_status", 200),
    ("big", "big_kb", None),
    ("long", "long", None),
)
_SWITCHES = {
    "hang": "hang",
    "reset": "reset",
    "redirect": "redirect",
    "crlf": "crlf",
    "comments": "comments",
    "no-length": "no_length",
    "chunked": "chunked",
    "refusal": "refusal",
}


class Refusal(Struct, frozen=True):
    """An answer with an error status; each family has its own shape for each `kind`."""

    status: int
    kind: str
    retry_after: str | None = None


class Fault(Struct, kw_only=True):
    """What goes wrong with one answer. Numbers are -1 where nothing was asked."""

    name: str = ""
    refuse: Refusal | None = None
    unknown: str = ""  # a part of the name that is no fault
    hang: bool = False
    reset: bool = False
    redirect: bool = False
    html_status: int = -1
    slow_first_ms: int = -1
    slow_event_ms: int = -1
    hang_after: int = -1
    cut_after: int = -1
    cut_at_byte: int = -1
    close_after: int = -1
    end_after: int = -1
    error_event: int = -1
    bad_json: int = -1
    drip_ms: int = -1
    split: int = -1
    crlf: bool = False
    comments: bool = False
    no_length: bool = False
    chunked: bool = False
    big_kb: int = -1
    long: int = -1
    refusal: bool = False
    replay: str = ""

    def pieces(self, text: str) -> Iterable[str]:
        """The pieces in which the text is streamed: its words, or the text that the fault sets."""
        if self.big_kb >= 0:
            return ("0123456789abcde " * 64 for _ in range(self.big_kb))
        if self.long >= 0:
            return (f"word{number} " for number in range(self.long))
        return re.findall(r"\s*\S+|\s+$", text)

    @property
    def breaks_body(self) -> bool:
        """Whether an answer that is not streamed needs more than being sent whole."""
        numbers = (
            self.hang_after,
            self.cut_after,
            self.cut_at_byte,
            self.close_after,
            self.end_after,
            self.slow_event_ms,
            self.drip_ms,
            self.split,
        )
        return self.no_length or self.chunked or max(numbers) >= 0


class Rule(Struct, kw_only=True):
    """A fault for all requests that match every given selector, set by POST /_sim/faults."""

    fault: str
    times: int = 1  # -1: until reset
    key: str | None = None
    path: str | None = None
    family: str | None = None
    model: str | None = None

    def matches(self, record: Record) -> bool:
        """Whether the rule applies to this request."""
        return (
            self.times != 0
            and self.key in (None, record.key)
            and self.family in (None, record.family)
            and self.model in (None, record.model)
            and (self.path is None or record.path.startswith(self.path))
        )


class Faults:
    """Chooses the fault of each request and counts the uses of those that end."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._uses: Counter[tuple[str, str, str]] = Counter()

    def reset(self) -> None:
        """Drops all rules and counts."""
        self.rules.clear()
        self._uses.clear()

    def pick(self, request: Request, model: str = "") -> Fault:
        """The fault for this request; also records the model. Each request calls it once."""
        record = record_of(request)
        record.model = model
        fault = self._pick(record, request.headers.get("x-sim-id", ""))
        record.fault = fault.name
        return fault

    def _pick(self, record: Record, sim_id: str) -> Fault:
        for rule in self.rules:
            if rule.matches(record):
                rule.times -= 1 if rule.times > 0 else 0
                if not rule.times:
                    self.rules.remove(rule)
                return parse(rule.fault.removeprefix("sim-"))
        for word, name in KEY_WORDS:
            if word in record.key:
                seconds = _LIMITED.search(record.key)
                return parse(f"429-after-{seconds[1]}" if seconds else name)
        asked = _MODEL.search(record.model) or _REPLAY.search(record.model)
        if not asked:
            return Fault()
        fails, well, times = split_then_ok(asked[1])
        if times:
            used = (record.family, record.model, sim_id)
            self._uses[used] += 1
            return parse(fails if self._uses[used] <= times else well)
        return parse(fails)


def split_then_ok(name: str) -> tuple[str, str, int]:
    """The name while it fails, the name afterwards, and how often it fails (0: always)."""
    fails, well, times = [], [], 0
    for part in name.split("+"):
        if passing := _THEN_OK.match(part):
            fails.append(passing["base"])
            times = int(passing["times"] or 1)
        else:
            fails.append(part)
            well.append(part)
    return "+".join(fails), "+".join(well), times


def parse(name: str) -> Fault:
    """The fault with this name, without its `sim-`; parts that mean nothing are in `unknown`."""
    fault = Fault(name=name)
    for part in filter(None, name.split("+")):
        _read_part(fault, part)
    return fault


def _read_part(fault: Fault, part: str) -> None:
    if refusal := _REFUSAL.match(part):
        status = int(refusal["status"])
        after = refusal["after"] or ("1" if status == 429 else "none")
        if after.startswith("date-") and after[5:].isdigit():
            after = formatdate(time.time() + int(after[5:]), usegmt=True)
        fault.refuse = Refusal(
            status,
            KINDS.get(status, "server" if status >= 500 else "bad_request"),
            None if after == "none" else after,
        )
    elif part == "quota":
        fault.refuse = Refusal(429, "quota")
    elif part.startswith("replay-"):
        fault.replay = part[len("replay-") :]
    elif part in _SWITCHES:
        setattr(fault, _SWITCHES[part], True)
    elif part == "split-bytes":
        fault.split = 1
    else:
        for word, field, default in _NUMBERED:
            number = part[len(word) + 1 :]
            if part == word and default is not None:
                setattr(fault, field, default)
                return
            if part.startswith(word + "-") and number.isdigit():
                setattr(fault, field, int(number))
                return
        fault.unknown = part
