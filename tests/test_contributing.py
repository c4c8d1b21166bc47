"""CONTRIBUTING.md: every room has a row in the map, every file it names exists, and the sections on
providers and fronts name every member of the interfaces. The example is tested in tests/server/."""

import re
from pathlib import Path

import pytest

from app.wire.front import Front
from app.wire.provider import Provider

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def section(title: str) -> str:
    """The text of one section, without its title."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


MAP, PATH = section("Map of the code"), section("The path of a request")
EXAMPLE = {"providers/parrot/api.py"}  # below tests/example/
FILES = r"`((?:app|etc|docs|providers|tests)/[\w/.]*\.\w+|run\.py)`"
NAMED = sorted(set(re.findall(FILES, TEXT)) - EXAMPLE)
FOLDERS = sorted(set(re.findall(r"`((?:app|bench|providers|tests)/(?:\w+/)*)`", TEXT)))
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


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_named_there_exists(folder):
    assert (ROOT / folder).is_dir()


@pytest.mark.parametrize(
    ("title", "interface"), [("Add a provider", Provider), ("Add a front", Front)]
)
def test_every_member_of_the_interface_is_named_and_no_other(title, interface):
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section(title), re.M)
    listed = {name for row in rows for name in re.findall(r"\w+", row)}
    known = set(interface.__struct_fields__)
    assert listed <= known
    assert [name for name in known if f"`{name}`" not in section(title)] == []


def test_the_path_goes_from_the_socket_to_the_upstream_and_back():
    assert [int(number) for number, _ in STEPS] == list(range(1, len(STEPS) + 1))
    files = [file for _, file in STEPS]
    assert len(set(files)) == len(files) > 10
    assert files[0].startswith("app/http/") and files[-1].startswith("app/http/")
    stages = ("app/engine/", "app/pool/", "providers/", "app/clients/", "app/fronts/")
    assert all(any(file.startswith(stage) for file in files) for stage in stages)
