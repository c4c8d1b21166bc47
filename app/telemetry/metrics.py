"""Prometheus metrics: counted in the worker's own row, summed over all rows at a scrape.

A counter never decreases while the gateway runs: not when a worker is killed, not at a reload.
Label values come from the config and from this code, never from callers or upstreams. Counting
costs some microseconds at the end of a call, and nothing per chunk.
"""

from bisect import bisect_left
from collections.abc import Iterable

from msgspec import Struct

from app.state.worker_slots import NAMES, NAMES_SIZE, VALUES, Row
from app.telemetry.call_log import GATEWAY_FAILED, OVERTAKEN, CallRecord

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_WIDTH = len(BUCKETS) + 2  # cells of a histogram: its buckets, +Inf, the sum


class Family(Struct, frozen=True):
    """A metric: name, Prometheus type and help text."""

    name: str
    type: str
    help: str


# Every metric, in the order of the exposition.
FAMILIES = (
    Family("gateway_requests_total", "counter", "Completed calls by outcome."),
    Family(
        "gateway_first_event_seconds",
        "histogram",
        "Time from the arrival of a streamed or forwarded call to the first byte of its answer.",
    ),
    Family(
        "gateway_stream_seconds",
        "histogram",
        "Time from the arrival of a streamed call to its end.",
    ),
    Family("gateway_open_streams", "gauge", "Open streams."),
    Family("gateway_open_calls", "gauge", "Open calls, streams included."),
    Family("gateway_attempts_total", "counter", "Upstream requests made to answer calls."),
    Family(
        "gateway_upstream_errors_total",
        "counter",
        "Failed upstream attempts by HTTP status, or cut, timeout, unreachable.",
    ),
    Family(
        "gateway_unknown_events_total",
        "counter",
        "Upstream events of unknown type: the upstream's protocol has changed.",
    ),
    Family("gateway_tokens_total", "counter", "Tokens as reported by upstreams, else estimated."),
    Family(
        "gateway_key_state",
        "gauge",
        "1: the key is in use; 0: it is cooling down or disabled. `provider` is its pool.",
    ),
    Family(
        "gateway_key_refused",
        "gauge",
        "1: the upstream refused this key (401, 403) and has not accepted it since.",
    ),
    Family("gateway_key_uses_total", "counter", "Upstream attempts with this key."),
    Family(
        "gateway_log_lines_dropped_total",
        "counter",
        "Log lines dropped because the reader was too slow or gone.",
    ),
    Family(
        "gateway_cost_usd_total",
        "counter",
        "Cost of answers in USD: told by the upstream, else by the list of prices.",
    ),
    Family("gateway_unpriced_calls_total", "counter", "Answers whose cost is not known."),
    Family(
        "gateway_budget_used_ratio",
        "gauge",
        "Used part of an access token's budget, of its tokens or its USD.",
    ),
    Family(
        "gateway_budget_refusals_total",
        "counter",
        "Calls refused for an access token's budget or its tokens per minute.",
    ),
    Family("gateway_ledger_rows_total", "counter", "Rows of calls written to the ledger."),
    Family(
        "gateway_ledger_rows_waiting",
        "gauge",
        "Rows of calls that wait in memory because the ledger could not be written.",
    ),
    Family(
        "gateway_ledger_rows_dropped_total",
        "counter",
        "Rows of calls that are in no ledger: it could not be written for too long.",
    ),
    Family(
        "gateway_traces_dropped_total",
        "counter",
        "Traced calls whose spans could not be sent to the collector.",
    ),
    Family("gateway_workers", "gauge", "Worker processes, those that drain included."),
    Family(
        "gateway_worker_restarts_total", "counter", "Worker processes restarted after they died."
    ),
    Family("gateway_reloads_total", "counter", "Config reloads, refused ones included."),
)
_GAUGES = tuple(f.name + "{" for f in FAMILIES if f.type == "gauge")
_HISTOGRAMS = frozenset(f.name for f in FAMILIES if f.type == "histogram")
_CONNECTION_ERRORS = {
    "upstream_cut": "cut",
    "upstream_idle": "timeout",
    "upstream_timeout": "timeout",
    "upstream_unreachable": "unreachable",
}


class Metrics:
    """The counters of one worker, in its row of shared memory. Without a row they are private."""

    def __init__(self, row: Row | None) -> None:
        self._row = row or Row(memoryview(bytearray(64 + VALUES * 8 + NAMES)))
        self._values = self._row.values
        self._cells: dict[str, int] = {}
        self._end = 0
        for name, start, width in series(self._row):
            self._cells[name] = start
            self._end = start + width
            if name.startswith(_GAUGES):
                self._values[start] = 0.0  # calls of the row's former owner are gone
        self._requests: dict[tuple[str, str, str], int] = {}
        self._by_provider: dict[str, tuple[int, ...]] = {}
        self._open_calls = self._cell('gateway_open_calls{kind="all"}')
        self._open_streams = self._cell('gateway_open_streams{kind="all"}')
        self._log_dropped = self._cell('gateway_log_lines_dropped_total{kind="all"}')
        self._dropped_before = self._values[self._log_dropped]  # by former owners
        self._traces_dropped = self._cell('gateway_traces_dropped_total{kind="all"}')
        self._traces_before = self._values[self._traces_dropped]
        self._ledger = tuple(
            self._cell(f'gateway_ledger_rows{what}{{kind="all"}}')
            for what in ("_total", "_waiting", "_dropped_total")
        )
        self._ledger_before = [self._values[cell] for cell in self._ledger]

    def open(self, calls: int, streams: int) -> None:
        """Sets the gauges of open calls and streams of this worker."""
        self._values[self._open_calls] = calls
        self._values[self._open_streams] = streams

    def log_dropped(self, lines: int) -> None:
        """Sets how many log lines this worker has dropped so far."""
        self._values[self._log_dropped] = self._dropped_before + lines

    def traces_dropped(self, calls: int) -> None:
        """Sets of how many calls this worker could not send the spans."""
        self._values[self._traces_dropped] = self._traces_before + calls

    def ledger(self, written: int, waiting: int, dropped: int) -> None:
        """Sets how many rows of the ledger this worker has written, keeps and has lost so far."""
        values, (total, now, lost) = self._values, self._ledger
        values[total] = self._ledger_before[0] + written
        values[now] = waiting
        values[lost] = self._ledger_before[2] + dropped

    def budget_refusal(self, kind: str) -> None:
        """Counts a call that a token's `budget` or `tpm` does not let in."""
        self._values[self._cell(f'gateway_budget_refusals_total{{kind="{kind}"}}')] += 1

    def call(self, record: CallRecord) -> None:
        """Counts a call that has ended."""
        values = self._values
        provider = record.provider
        key = (provider, record.route, record.outcome)
        cell = self._requests.get(key)
        if cell is None:
            labels = f'provider="{provider}",route="{record.route}",outcome="{record.outcome}"'
            cell = self._cell(f"gateway_requests_total{{{labels}}}")
            self._requests[key] = cell
        values[cell] += 1
        if not record.attempts:
            return
        cells = self._by_provider.get(provider)
        if cells is None:
            cells = self._by_provider[provider] = self._cells_of(provider)
        attempts, first_event, stream, prompt, completion, cost, unpriced = cells
        values[attempts] += record.attempts
        if record.first_event_ms is not None:
            self._observe(first_event, record.first_event_ms / 1000)
        if record.stream:
            self._observe(stream, record.total_ms / 1000)
        if record.prompt_tokens is not None:
            values[prompt] += record.prompt_tokens
            values[completion] += record.completion_tokens or 0
            if record.cost is None:
                values[unpriced] += 1
            else:
                values[cost] += record.cost / 1e9
        if record.unknown_events:
            name = f'gateway_unknown_events_total{{provider="{provider}"}}'
            values[self._cell(name)] += record.unknown_events
        if record.tried or record.outcome.startswith("upstream_"):
            self._count_errors(record)

    def _count_errors(self, record: CallRecord) -> None:
        failed = [
            (one.provider, str(one.status) if one.status >= 400 else "cut")
            for one in record.tried
            if one.outcome not in (OVERTAKEN, GATEWAY_FAILED)
        ]
        broke_later = record.first_event_ms is not None
        if record.outcome.startswith("upstream_") and (broke_later or not failed):
            code = _CONNECTION_ERRORS.get(record.outcome) or (
                str(record.status) if record.status >= 400 else ""
            )
            failed.append((record.provider, code or "error"))
        for provider, code in failed:
            name = f'gateway_upstream_errors_total{{provider="{provider}",code="{code}"}}'
            self._values[self._cell(name)] += 1

    def _cells_of(self, provider: str) -> tuple[int, ...]:
        label = f'{{provider="{provider}"}}'
        tokens = f'gateway_tokens_total{{provider="{provider}",kind='
        return (
            self._cell("gateway_attempts_total" + label),
            self._cell("gateway_first_event_seconds" + label, _WIDTH),
            self._cell("gateway_stream_seconds" + label, _WIDTH),
            self._cell(tokens + '"prompt"}'),
            self._cell(tokens + '"completion"}'),
            self._cell("gateway_cost_usd_total" + label),
            self._cell("gateway_unpriced_calls_total" + label),
        )

    def _observe(self, cell: int, seconds: float) -> None:
        values = self._values
        values[cell + bisect_left(BUCKETS, seconds)] += 1
        values[cell + _WIDTH - 1] += seconds

    def _cell(self, name: str, width: int = 1) -> int:
        """The first cell of a series. For a new one, its name is written before the names' length,
        so that a reader sees whole names only."""
        cell = self._cells.get(name)
        if cell is not None:
            return cell
        line = f"{width} {name}\n".encode()
        size = self._row.cells[NAMES_SIZE]
        if self._end + width > VALUES - _WIDTH or size + len(line) > NAMES:
            return VALUES - _WIDTH  # no room: counted in cells that are never read
        cell, self._end = self._end, self._end + width
        self._cells[name] = cell
        # A former owner may have died between writing the name and the length.
        self._values[cell : cell + width] = memoryview(bytes(8 * width)).cast("d")
        self._row.names[size : size + len(line)] = line
        self._row.cells[NAMES_SIZE] = size + len(line)
        return cell


def series(row: Row) -> Iterable[tuple[str, int, int]]:
    """Name, first cell and number of cells of each series of a row."""
    start = 0
    for line in bytes(row.names[: row.cells[NAMES_SIZE]]).splitlines():
        width, _, name = line.partition(b" ")
        yield name.decode(), start, int(width)
        start += int(width)


def add_up(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Series -> cells, summed over all rows. Gauges of dead workers do not count."""
    found: dict[str, list[float]] = {}
    for row in rows:
        alive = row.is_alive
        for name, start, width in series(row):
            if not alive and name.startswith(_GAUGES):
                continue
            total = found.setdefault(name, [0.0] * width)
            for cell in range(width):
                total[cell] += row.values[start + cell]
    return found


def as_text(found: dict[str, list[float]]) -> str:
    """The series in Prometheus' text format, version 0.0.4."""
    by_family: dict[str, list[tuple[str, list[float]]]] = {}
    for name, values in sorted(found.items()):
        family_name, _, labels = name.partition("{")
        by_family.setdefault(family_name, []).append((labels.rstrip("}"), values))
    lines = []
    for family in FAMILIES:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.type}"]
        for labels, values in by_family.get(family.name, ()):
            if family.name in _HISTOGRAMS:
                lines += _histogram(family.name, labels, values)
            else:
                inner = "" if labels in ("", 'kind="all"') else f"{{{labels}}}"
                lines.append(f"{family.name}{inner} {_number(values[0])}")
    return "\n".join(lines) + "\n"


def _histogram(name: str, labels: str, values: list[float]) -> Iterable[str]:
    count = 0.0
    for bound, value in zip((*map(_number, BUCKETS), "+Inf"), values[:-1], strict=True):
        count += value
        yield f'{name}_bucket{{{labels},le="{bound}"}} {_number(count)}'
    yield f"{name}_sum{{{labels}}} {values[-1]:.6f}"
    yield f"{name}_count{{{labels}}} {_number(count)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def label(value: str) -> str:
    """A label value with the escapes of the text format."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
