"""docs/limits.md has every number of the config's schema with its default, and fixed limits."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from app.config.schema import Config, Section
from app.engine import picture_cache
from app.http.body_limits import MAX_VALUES
from app.http.head_check import MAX_HEADERS
from app.pool import kept_answers

TEXT = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
TOLD = dict(re.findall(r"^\| `([\w.\[\]]+)` \| (\S+)", TEXT, re.M))


def numbers(section: type[Section] = Config, prefix: str = ""):
    """(key, default) of each number; `[]` stands for an entry of a list."""
    hints = get_type_hints(section)
    for field in msgspec.structs.fields(section):
        hint, name = hints[field.name], prefix + field.encode_name
        inner = [
            h for h in (hint, *get_args(hint)) if isinstance(h, type) and issubclass(h, Section)
        ]
        if inner:
            yield from numbers(inner[0], name + ("." if inner[0] is hint else "[]."))
        elif type(field.default) in (int, float):
            yield name, field.default


KEYS = dict(numbers())
# Told in one sentence for all keys.
OF_A_KEY = re.compile(r"\.(?:api_keys|web_sessions)\[\]\.(?:rpm|tpm)$")


def test_the_page_has_each_number_of_the_schema():
    missing = {key for key in KEYS if not OF_A_KEY.search(key)} - set(TOLD)
    assert missing == set(), sorted(missing)
    assert all(default == 0 for key, default in KEYS.items() if OF_A_KEY.search(key))


@pytest.mark.parametrize("key", TOLD)
def test_each_default_is_the_schemas(key):
    if key == "port":
        assert TOLD[key] == Config().port
    else:
        known = KEYS | {"upstreams[].api_keys[].max_concurrent": 0}
        assert float(TOLD[key]) == known[key]


def test_sizes_are_told_in_binary_units_too():
    for number, count, unit in re.findall(r"(\d+)(?: bytes)? \((\d+) ([MG]iB)\)", TEXT):
        assert int(number) == int(count) * {"MiB": 2**20, "GiB": 2**30}[unit]


@pytest.mark.parametrize(
    "limit",
    [
        MAX_VALUES,
        MAX_HEADERS,
        picture_cache.MAX_BYTES,
        kept_answers.MOST_ROWS,
        kept_answers.MOST_BYTES,
        kept_answers.MOST_TURNS,
    ],
)
def test_fixed_limits_are_the_codes(limit):
    fixed = TEXT.partition("\n## Fixed\n")[2]
    assert re.search(rf"\b{limit}\b", fixed)
