"""Batches as the ledger makes them."""

from collections.abc import Iterable

from app.accounting.ledger import rows_of
from app.accounting.store import Batch, Row
from app.telemetry.call_log import CallRecord


def call_of(at: int, record: CallRecord) -> tuple[Row, Row]:
    """The kind and the row of a call that ended at `at`, in Unix milliseconds."""
    kinds, (row,) = rows_of([(at, record)])
    return kinds[row[2]], row


def batch_of(
    calls: Iterable[tuple[Row, Row]] = (),
    sums: Iterable[Row] = (),
    number: int = 1,
    writer: str = "w1",
    time: int = 1_800_000_000,
) -> Batch:
    """A batch of what `call_of` returns."""
    pairs = list(calls)
    kinds = {kind[0]: kind for kind, _ in pairs}
    return Batch(writer, number, time, list(kinds.values()), [row for _, row in pairs], list(sums))
