"""Rows of text as a table for the terminal."""

from collections.abc import Sequence


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns, the last one ragged."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
