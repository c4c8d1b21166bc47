"""The map in CONTRIBUTING.md: every room has a row, and every file it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def section(title: str) -> str:
    """The text of one section, without its title."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


MAP, PATH = section("Map of the code"), section("The path of a request")
NAMED = sorted(set(re.findall(r"`((?:app|providers|tests)/[\w/]*\.py|run\.py)`", MAP + PATH)))
STEPS = re.findall(r"^(\d+)\. `([\w/]+\.py)`: ", PATH, re.M)


def rooms() -> set[str]:
    """Every folder below app/ and providers/ that holds files of the product."""
    files = (file for top in ("app", "providers") for file in (ROOT / top).rglob("*.*"))
    held = {
        file.parent.relative_to(ROOT).as_posix() + "/"
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }
    return held - {"app/"}  # its version alone


def test_the_page_opens_with_the_map():
    titles = re.findall(r"^## (.*)$", TEXT, re.M)
    assert titles[:2] == ["Map of the code", "The path of a request"]


def test_every_room_has_one_row_and_every_row_a_room():
    listed = re.findall(r"^\| `([\w/]+/)` \| \S", MAP, re.M)
    assert sorted(listed) == sorted(rooms())


@pytest.mark.parametrize("file", NAMED)
def test_every_file_named_there_exists(file):
    assert (ROOT / file).is_file()


def test_the_path_goes_from_the_socket_to_the_upstream_and_back():
    assert [int(number) for number, _ in STEPS] == list(range(1, len(STEPS) + 1))
    files = [file for _, file in STEPS]
    assert len(set(files)) == len(files) > 10
    assert files[0].startswith("app/http/") and files[-1].startswith("app/http/")
    stages = ("app/engine/", "app/pool/", "providers/", "app/clients/", "app/fronts/")
    assert all(any(file.startswith(stage) for file in files) for stage in stages)
