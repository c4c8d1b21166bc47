"""The table of docs/parameters.md, for the tests that hold it to what the code does."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "parameters.md"
_COLUMNS = ("openai", "claude", "gemini")
_ROW = re.compile(r"\| `(\w+)` \| (.+) \| (.+) \| (.+) \|")


def parameters_table(provider: str) -> dict[str, str]:
    """What the document says of each parameter for one provider."""
    column = _COLUMNS.index(provider) + 2
    rows = map(_ROW.fullmatch, DOCUMENT.read_text().splitlines())
    return {row[1]: row[column] for row in rows if row}
