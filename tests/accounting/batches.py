"""Batches as the ledger makes them."""

from collections.abc import Iterable

from app.accounting.store import Batch, Row


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
