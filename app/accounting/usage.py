"""What is read from the ledger: sums by token, model, key or time, and single calls.

A call is in the ledger about a second after its end. Sums are kept by the hour and by the day, in
UTC. Money is in USD here; None is a cost that nobody knows, which is not zero.
"""

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import Struct

from app.accounting.series import SPANS, Series, series
from app.accounting.store import COLUMNS, DAY, FIGURES, HOUR, Row, Store, Unwritten
from app.telemetry.redaction import redact
from app.wire.errors import GatewayError

# What sums can be told by, and the columns that say it.
BY = {
    "token": ("token",),
    "provider": ("provider",),
    "model": ("provider", "model"),
    "key": ("provider", "key_id"),
    "day": ("start",),
    "hour": ("start",),
    "all": (),
}
FILTERS = ("token", "provider", "model", "key_id")  # of sums and of calls
CALL_FILTERS = (*FILTERS, "request_id", "outcome", "status", "counted")
MOST_CALLS, DEFAULT_CALLS = 1000, 100
DEFAULT_DAYS = 30
_NANO = 1_000_000_000
_AGO = re.compile(r"(\d{1,5})([hd])").fullmatch
_DATE = re.compile(r"\d{4}-\d\d-\d\d").fullmatch

T = TypeVar("T")
Value = str | int | float | bool | None


class Span(Struct, frozen=True):
    """From `since` up to, not including, `until`, in Unix seconds."""

    since: int
    until: int


def span_of(since: str | None, until: str | None, now: float) -> Span:
    """The span of time that two words name: a date, a time, or how long ago (`24h`, `7d`).

    Days are whole ones, in UTC: `7d` is today and the seven days before, and `until` a date is up
    to its end. Raises ValueError that says what is wrong.
    """
    start = _moment(since or f"{DEFAULT_DAYS}d", now)
    end = int(now) + 1 if until is None else _moment(until, now)
    if until is not None and _DATE(until):
        end += DAY
    if start >= end:
        raise ValueError("`since` must be before `until`")
    return Span(start, end)


def _moment(word: str, now: float) -> int:
    if ago := _AGO(word):
        if ago[2] == "h":
            return int(now) - int(ago[1]) * HOUR
        return int(now) // DAY * DAY - int(ago[1]) * DAY
    try:
        at = datetime.fromisoformat(word)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return int(at.timestamp())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{word[:40]!r} is no time: write a date (2026-01-31), a time "
            "(2026-01-31T12:00:00Z), or how long ago (24h, 7d)"
        ) from None


def sums(
    store: Store, by: str, span: Span, having: Sequence[tuple[str, str]] = ()
) -> list[dict[str, Value]]:
    """The sums of the calls that match, one for each value of `by`: the dearest first, days and
    hours in their order.

    `having` are pairs of a column of FILTERS and its value. The first and the last hour, or day
    where `span` begins at one, count whole. Raises Unwritten.
    """
    columns = BY[by]
    is_of_days = by != "hour" and span.since % DAY == 0
    seconds = DAY if is_of_days else HOUR
    start = "start"
    if by == "day" and not is_of_days:
        start = f"start / {DAY} * {DAY}"
    told = [start if name == "start" else name for name in columns]
    figures = [f"CAST(COALESCE(SUM({name}), 0) AS BIGINT)" for name in FIGURES]
    where, values = _where(FILTERS, having)
    groups = f" GROUP BY {', '.join(told)}" if told else ""
    order = f" ORDER BY {start}" if columns == ("start",) else ""
    rows = store.read(
        f"SELECT {', '.join([*told, *figures])} FROM ledger_sums "  # noqa: S608 (own names)
        f"WHERE seconds = ? AND start >= ? AND start < ?{where}{groups}{order}",
        (seconds, span.since // seconds * seconds, span.until, *values),
    )
    found = [_sum_of(columns, by, row) for row in rows]
    if not order:
        found.sort(key=lambda each: (-float(each["cost_usd"] or 0), -int(each["calls"] or 0)))
    return found


def _sum_of(columns: Sequence[str], by: str, row: Row) -> dict[str, Value]:
    figures = dict(zip(FIGURES, row[len(columns) :], strict=True))
    cost = figures.pop("cost")
    told: dict[str, Value] = {}
    for name, value in zip(columns, row, strict=False):
        if name == "start":
            told[by] = _iso(value)[: 10 if by == "day" else 16] + ("" if by == "day" else "Z")
        else:
            told[name] = value
    unpriced = figures.pop("unpriced")
    told |= figures
    told["cost_usd"] = None if unpriced and not cost else cost / _NANO
    told["unpriced"] = unpriced
    return told


def calls(
    store: Store,
    span: Span,
    having: Sequence[tuple[str, str]] = (),
    before: int | None = None,
    limit: int = DEFAULT_CALLS,
) -> list[dict[str, Value]]:
    """Single calls, the newest first: those that match, with an `id` below `before`. The last one's
    id leads to the next page. Raises Unwritten."""
    where, values = _where(CALL_FILTERS, having)
    if before is not None:
        where, values = where + " AND id < ?", [*values, before]
    rows = store.read(
        f"SELECT id, {', '.join(COLUMNS)} FROM ledger_calls "  # noqa: S608 (own names)
        f"WHERE time >= ? AND time < ?{where} ORDER BY id DESC LIMIT ?",
        (span.since * 1000, span.until * 1000, *values, limit),
    )
    return [_call_of(row) for row in rows]


def _call_of(row: Row) -> dict[str, Value]:
    told: dict[str, Value] = dict(zip(("id", *COLUMNS), row, strict=True))
    told["time"] = _iso(row[1] / 1000)
    told["stream"] = bool(told["stream"])
    cost = told.pop("cost")
    told["cost_usd"] = None if cost is None else float(cost) / _NANO
    return told


def _where(known: Sequence[str], having: Sequence[tuple[str, str]]) -> tuple[str, list[str | int]]:
    assert all(name in known for name, _ in having)
    values: list[str | int] = [int(v) if name == "status" else v for name, v in having]
    return "".join(f" AND {name} = ?" for name, _ in having), values


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def as_csv(rows: Sequence[dict[str, Value]]) -> str:
    """The rows with their names in the first line; what nobody knows is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    writer.writerows(map(_cells, rows))
    return out.getvalue()


def _cells(row: dict[str, Value]) -> Iterable[Value]:
    for value in row.values():
        if isinstance(value, float):
            yield f"{value:.9f}".rstrip("0").rstrip(".")
        elif isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
            yield "'" + value  # a spreadsheet would reckon with a name that a caller made up
        else:
            yield value


class UsageReader:
    """Reads the ledger on a thread of its own, for the routes of one worker."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._series: dict[tuple[str, str], tuple[float, Series]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage")

    async def sums(
        self, by: str, span: Span, having: Sequence[tuple[str, str]] = ()
    ) -> list[dict[str, Value]]:
        """See `sums`. Raises GatewayError 503, or 404 where no ledger is kept."""
        return await self._run(sums, by, span, having)

    async def calls(
        self, span: Span, having: Sequence[tuple[str, str]], before: int | None, limit: int
    ) -> list[dict[str, Value]]:
        """See `calls`. Raises GatewayError 503, or 404 where no ledger is kept."""
        return await self._run(calls, span, having, before, limit)

    async def series(self, span: str, by: str, now: float) -> Series:
        """See `series`; at most as old as one of its steps needs. Raises GatewayError 503, 404."""
        found = self._series.get((span, by))
        if found is None or now - found[0] > SPANS[span].keep_seconds:
            told: Series = await self._run(series, span, by, now)
            found = self._series[span, by] = now, told
        return found[1]

    async def close(self) -> None:
        """Closes the database."""
        if self._store is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    async def _run(self, read: Callable[..., T], *asked: Any) -> T:
        store = self._store
        if store is None:
            raise GatewayError(
                404, "No ledger is kept here (ledger: off in the config).", code="no_ledger"
            )

        def guarded() -> T:
            try:
                return read(store, *asked)
            except Unwritten as error:
                store.close()
                raise GatewayError(
                    503,
                    f"The ledger cannot be read: {redact(str(error))[:300]}",
                    code="ledger_unavailable",
                ) from None

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)
