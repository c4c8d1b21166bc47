"""`run.py usage`: the ledger's sums as a table, CSV or JSON. Needs no running gateway."""

import json
from collections.abc import Sequence

from app.accounting.store import Unwritten, store_of
from app.accounting.usage import BY, Value, as_csv, span_of, sums
from app.cli.failure import CommandFailed
from app.cli.table import as_table
from app.config.load import secrets
from app.config.schema import Config
from app.telemetry.redaction import Redactor

CHOICES = tuple(BY)
_HEADS = {
    "key_id": "key",
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "cache_write_tokens": "cache write",
    "completion_tokens": "completion",
    "reasoning_tokens": "reasoning",
    "cost_usd": "USD",
}


def report(
    config: Config,
    by: str,
    since: str | None,
    until: str | None,
    form: str,
    now: float,
    having: Sequence[tuple[str, str]] = (),
) -> str:
    """The sums by `by`, in `form`: "table", "csv" or "json"; `having` as `sums` takes it.

    Raises CommandFailed for what cannot be reported: a span that is none, no ledger, one that
    cannot be read.
    """
    try:
        span = span_of(since, until, now)
    except ValueError as error:
        raise CommandFailed(str(error), 2) from None
    store = store_of(config.ledger)
    if store is None:
        raise CommandFailed("no ledger is kept (ledger: off in the config)")
    try:
        found = sums(store, by, span, having)
    except Unwritten as error:
        reason = Redactor(secrets(config))(str(error))
        raise CommandFailed(f"the ledger cannot be read: {reason}") from None
    finally:
        store.close()
    if form == "csv":
        return as_csv(found).rstrip("\n")
    if form == "json":
        about = {"by": by, "since": span.since, "until": span.until}
        return json.dumps({**about, "data": found}, indent=2)
    return _table(found) if found else "no calls in this time"


def _table(found: Sequence[dict[str, Value]]) -> str:
    heads = [_HEADS.get(name, name) for name in found[0]]
    return as_table([heads, *(list(map(_cell, row.values())) for row in found)])


def _cell(value: Value) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value) or "-"
