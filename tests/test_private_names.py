"""Tests use a private name of ours only where a comment beside it says why: "private: ..."."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = r"_[A-Za-z]\w*"
# An attribute of anything but self and cls, an import, the name or the path that setattr is given.
USES = re.compile(
    rf"(?<!\bself)(?<!\bcls)(?<=[\w)\]])\.({NAME})"
    rf"|\bimport (?:.*\W)?({NAME})"
    rf"|setattr\(.*?[\".]({NAME})\""
)
# This one has examples, the other a table of what is private elsewhere.
LEFT_OUT = ("test_private_names.py", "test_borrowed_names.py")
LINES_BEFORE = 3  # where the comment may stand, if not in the line itself


@cache
def ours() -> frozenset[str]:
    """All names in app/ and providers/ that begin with an underscore."""
    files = [file for room in ("app", "providers") for file in (ROOT / room).rglob("*.py")]
    return frozenset(name for file in files for name in re.findall(rf"\b{NAME}", file.read_text()))


def unexplained(source: str) -> list[str]:
    """The uses of our private names that have no reason beside them, as line number and name."""
    lines, found = source.splitlines(), []
    for at, line in enumerate(lines):
        beside = "\n".join(lines[max(at - LINES_BEFORE, 0) : at + 1]).lower()
        for uses in USES.findall(line):
            (name,) = filter(None, uses)
            # One that the test file has itself is its own.
            is_own = re.search(rf"(?:def |self\.){name}\b", source)
            if name in ours() and not is_own and "private" not in beside:
                found.append(f"{at + 1} {name}")
    return found


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_each_use_of_a_private_name_has_its_reason_beside_it(folder):
    found = [
        f"{file.relative_to(ROOT)}:{use}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file.name not in LEFT_OUT
        for use in unexplained(file.read_text())
    ]
    assert found == [], 'go by what is public, or write "private: ..." beside it, with the reason'


@pytest.mark.parametrize(
    "line",
    [
        "pool._cells[0]",
        "pool(x)._cells",
        "pools[0]._cells",
        "from app.telemetry.redaction import Redactor, _forms",
        'monkeypatch.setattr(pool, "_cells", {})',
        'monkeypatch.setattr("app.pool.key_pool._cells", {})',
    ],
)
def test_a_use_is_found_and_a_reason_allows_it(line):
    assert unexplained(line) and not unexplained(f"{line}  # private: nothing else shows it")
    assert not unexplained(f"# Private: nothing else shows it.\n{line}")


@pytest.mark.parametrize(
    "source",
    ["self._cells", "cls._cells", "x._a_name_of_others", "def _cells(): 0\nx._cells", '"_bucket"'],
)
def test_other_names_are_not(source):
    assert unexplained(source) == []
