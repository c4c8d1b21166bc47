"""docs/api.md tells every route, header and member of the gateway's own, and no others."""

import re
from pathlib import Path

import pytest
from sanic import Sanic

import providers
from app.config.schema import Config
from app.process.server import create_app
from tests.openai_types import EXTENSIONS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "api.md").read_text()
ANY = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
OURS = re.compile(r'"(x-(?:auth|version|bot|access|request|upstream|gateway|should)[a-z-]*)"')


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


@pytest.fixture(scope="module")
def registered():
    app = create_app(Config())
    found = set()
    for route in app.router.routes:
        path = "/" + re.sub(r"<(?:__)?(\w+):[^>]*>", r"{\1}", route.path)
        found |= {(method, path) for method in route.methods}
    yield found
    Sanic.unregister_app(app)


def test_each_route_is_documented_and_each_documented_route_exists(registered):
    told = set()
    for first, *_ in rows("Routes"):
        if found := re.fullmatch(r"`(\w+) (/\S*)`", first):
            told |= {(m, found[2]) for m in (ANY if found[1] == "ANY" else {found[1]})}
    # HEAD comes with the GET of what load balancers ask for.
    assert {each for each in registered if each[0] != "HEAD"} == {
        each for each in told if each[0] != "HEAD"
    }
    assert {each for each in told if each[0] == "HEAD"} <= registered


def test_each_header_of_ours_is_documented_and_each_documented_one_is_used():
    code = "".join(
        path.read_text()
        for room in ("app", "providers")
        for path in (ROOT / room).rglob("*.py")
        if "simulator" not in path.parts
    )
    told = set()
    for heading in ("Headers of a request", "Headers of a response"):
        for first, *_ in rows(heading):
            told |= names(first)
    assert set(OURS.findall(code)) <= told
    assert not [name for name in told if name.rstrip("*") not in code]


def test_each_member_of_ours_is_documented():
    table = rows("Fields besides OpenAI's")
    told = {name for first, *_ in table for name in names(first)}
    assert {"provider", *providers.MEMBERS} <= told
    extensions = {
        first.strip("`").replace("top", ""): names(second.partition(":")[0])
        for first, second in table
        if first == "top" or first.startswith("`choices")
    }
    assert extensions == EXTENSIONS
