"""The ledger over time, for plots: calls, failures, streams, tokens, and how soon answers began.

Quarters of an hour and days are made of single calls, months of daily sums, which know nothing of
single calls: there are no streams and no times in a month's.
"""

from typing import Any

from msgspec import Struct

from app.accounting.store import DAY, Row, Store


class Span(Struct, frozen=True):
    """How far back, in steps of how many seconds, and for how long an answer is kept."""

    steps: int
    seconds: int
    keep_seconds: float


SPANS = {
    "15m": Span(60, 15, 3.0),
    "1d": Span(48, 1800, 60.0),
    "30d": Span(31, DAY, 60.0),
}
GROUPS = {"all": "''", "provider": "provider", "model": "model", "token": "token"}
_MOST_GROUPS = 8  # those with the most calls
# Upper bounds of the classes that times are counted in, in milliseconds: each a fifth above the
# last one, so that a percentile is off by a tenth at most.
_BOUNDS = [round(10 * 1.2**n) for n in range(52)]
_CLASS = (
    "CASE WHEN first_event_ms IS NULL THEN -1 "
    + " ".join(f"WHEN first_event_ms < {bound} THEN {n}" for n, bound in enumerate(_BOUNDS))
    + f" ELSE {len(_BOUNDS)} END"
)


class Line(Struct):
    """One group. Each list has a number per step; a percentile is None where there is no call."""

    name: str
    calls: list[int]
    failed: list[int]
    streams: list[int]
    tokens: list[int]
    p50_ms: list[float | None]
    p95_ms: list[float | None]


class Series(Struct):
    """`start` is the beginning of the first step, in Unix seconds; `seconds` its length, and
    `last_seconds` how much of the last step is over."""

    start: int
    seconds: int
    last_seconds: int
    lines: list[Line]


def series(store: Store, span: str, by: str, now: float) -> Series:
    """The calls of a span of SPANS up to `now`, by a column of GROUPS. Raises Unwritten."""
    found, at = SPANS[span], int(now)
    if found.seconds < 60:  # a step that has just begun would show as a dip
        at = at // found.seconds * found.seconds - 1
    last = at // found.seconds * found.seconds
    start = last - (found.steps - 1) * found.seconds
    read = _of_days if found.seconds == DAY else _of_calls
    return Series(start, found.seconds, at + 1 - last, read(store, GROUPS[by], start, found))


def _of_calls(store: Store, column: str, start: int, span: Span) -> list[Line]:
    rows = store.read(
        f"SELECT (time - {start * 1000}) / {span.seconds * 1000}, {column}, {_CLASS}, "  # noqa: S608
        "COUNT(*), SUM(CASE WHEN outcome <> 'complete' OR status >= 400 THEN 1 ELSE 0 END), "
        "SUM(stream), CAST(SUM(COALESCE(prompt_tokens, 0) + COALESCE(completion_tokens, 0)) "
        "AS BIGINT) FROM ledger_calls WHERE time >= ? AND time < ? GROUP BY 1, 2, 3",
        (start * 1000, (start + span.steps * span.seconds) * 1000),
    )
    lines, classes = _Lines(span.steps), dict[tuple[str, int], dict[int, int]]()
    for step, name, kind, *figures in rows:
        lines.add(step, name, *figures)
        if kind >= 0:
            counted = classes.setdefault((name, step), {})
            counted[kind] = counted.get(kind, 0) + figures[0]
    told = lines.largest()
    for line in told:
        for step in range(span.steps):
            if of_step := classes.get((line.name, step)):
                line.p50_ms[step] = _percentile(of_step, 0.5)
                line.p95_ms[step] = _percentile(of_step, 0.95)
    return told


def _of_days(store: Store, column: str, start: int, span: Span) -> list[Line]:
    rows: list[Row] = store.read(
        f"SELECT (start - {start}) / {DAY}, {column}, "  # noqa: S608
        "CAST(SUM(calls) AS BIGINT), CAST(SUM(failed) AS BIGINT), 0, "
        "CAST(SUM(prompt_tokens + completion_tokens) AS BIGINT) FROM ledger_sums "
        "WHERE seconds = ? AND start >= ? GROUP BY 1, 2",
        (DAY, start),
    )
    lines = _Lines(span.steps)
    for step, name, *figures in rows:
        lines.add(step, name, *figures)
    return lines.largest()


class _Lines:
    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._by_name: dict[str, Line] = {}

    def add(self, step: Any, name: str, calls: int, failed: int, streams: int, tokens: int) -> None:
        if not 0 <= step < self._steps:
            return
        line = self._by_name.get(name)
        if line is None:
            n = self._steps
            line = Line(name, [0] * n, [0] * n, [0] * n, [0] * n, [None] * n, [None] * n)
            self._by_name[name] = line
        line.calls[step] += calls
        line.failed[step] += failed
        line.streams[step] += streams
        line.tokens[step] += tokens

    def largest(self) -> list[Line]:
        lines = sorted(self._by_name.values(), key=lambda line: -sum(line.calls))
        return lines[:_MOST_GROUPS]


def _percentile(counted: dict[int, int], share: float) -> float:
    """The middle of the class that the share falls into, in milliseconds."""
    left = share * sum(counted.values())
    for kind in sorted(counted):
        left -= counted[kind]
        if left <= 0:
            break
    upper = _BOUNDS[min(kind, len(_BOUNDS) - 1)]
    return round(upper / 1.1, 1)
