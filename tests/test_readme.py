"""What the READMEs say is there is there: commands, flags, routes, config keys, links."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from sanic import Sanic

from app.config.schema import Config, Section
from app.process.server import create_app

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def pages(paths):
    return pytest.mark.parametrize("page", paths, ids=lambda path: path.name)


def config_keys(section=Config, prefix=""):
    for name, hint in get_type_hints(section).items():
        yield prefix + name
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and issubclass(inner, Section):
                yield from config_keys(inner, f"{prefix}{name}.")


@pytest.fixture(scope="module")
def routes():
    app = create_app(Config())
    found = set()
    for route in app.router.routes:
        path = "/" + re.sub(r"<(?:__)?(\w+):[^>]*>", r"{\1}", route.path)
        found |= {(method, path) for method in route.methods}
    yield found
    Sanic.unregister_app(app)


def exists(routes, method, path):
    """`*` stands for the rest of a path; ANY for at least GET and POST."""
    plain = re.sub(r"\{\w+\}|\*", "{}", path)
    pattern = re.escape(plain).replace(re.escape("{}"), r"\{\w+\}")
    wanted = ["GET", "POST"] if method == "ANY" else [method]
    return all(any(m == w and re.fullmatch(pattern, p) for m, p in routes) for w in wanted)


@pages(PAGES)
def test_every_documented_route_exists(page, routes):
    text = page.read_text()
    told = re.findall(r"`(ANY|GET|POST|PUT|DELETE) (/[^\s`]*)`", text)
    missing = [each for each in told if not exists(routes, *each)]
    assert not missing


@pages(READMES)
def test_the_readme_has_the_routes_of_the_product(page):
    for route in ("POST /c/v1/chat/completions", "ANY /v1/*", "ANY /claude/api/*", "ANY /gemini/*"):
        assert f"`{route}`" in page.read_text() or route.split("/", 1)[1] in page.read_text()


@pages(PAGES)
def test_every_documented_config_key_exists(page):
    known = set(config_keys())
    sections = {key.split(".")[0] for key in known}
    told = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", page.read_text())
    files = (".py", ".md", ".yaml", ".txt", ".json", ".toml")
    wrong = [
        key
        for key in told
        if key.split(".")[0] in sections and key not in known and not key.endswith(files)
    ]
    assert not wrong


@pages(READMES)
def test_every_documented_flag_exists(page):
    done = subprocess.run(
        [sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = set(re.findall(r"`(--[a-z-]+)`", page.read_text()))
    assert told and all(flag in done.stdout for flag in told)


@pages(PAGES)
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    told = set(re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.M))
    assert told <= targets


@pages(PAGES)
def test_every_link_leads_somewhere(page):
    told = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert not [link for link in told if not (page.parent / link).exists()]


def test_both_readmes_have_the_same_structure():
    def outline(path):
        text = path.read_text()
        return (
            [line.split(" ")[0] for line in text.splitlines() if line.startswith("#")],
            re.findall(r"^    (?:make|curl|pip|python|export) .*$", text, re.M),
            text.count("\n|"),
            text.count("```"),
        )

    english, chinese = map(outline, READMES)
    assert english == chinese


def test_the_readmes_first_answer_is_the_simulators(simulator, tmp_path):
    """The curl of the first screen, asked for real: the same answer but for ids and time."""
    import json

    import httpx

    from tests.server.running import running

    text = READMES[0].read_text()
    body = json.loads(re.search(r"-d '(\{.*\})'", text)[1])
    told = json.loads(re.search(r"```json\n(.*?)```", text, re.S)[1])
    config = {
        "claude": {
            "api_url": f"{simulator.url}/claude",
            "api_keys": [{"id": "demo-3", "val": "demo-claude-key-3"}],
        }
    }
    with running(tmp_path, config) as gateway:
        got = httpx.post(f"{gateway.url}/c/v1/chat/completions", json=body).json()
    for member in ("id", "created"):
        told.pop(member), got.pop(member)
    assert got == told
