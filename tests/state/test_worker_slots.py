"""A worker's row is taken over when its owner is dead."""

import os

from app.state.worker_slots import WorkerRows


def test_a_row_of_a_process_whose_number_another_one_has_is_free():
    rows = WorkerRows()
    row = rows.claim()
    assert row.is_alive and row.pid == os.getpid()
    row.cells[1] += 2**22
    assert not row.is_alive and rows.claim() is row


def test_a_row_with_a_living_owner_is_not_given_away():
    rows = WorkerRows()
    row = rows.claim()
    other = rows.claim()
    assert other is not row and rows.used() == [row, other]
