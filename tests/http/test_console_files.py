"""The console's files as they lie in the package: whole, from nowhere else, in two languages."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from app.http.routes import console

FOLDER = Path(console.__file__).parents[1] / "console"
OWN = [p for p in FOLDER.rglob("*") if p.is_file() and "vendor" not in p.parts]
SCRIPTS = [p for p in OWN if p.suffix == ".js"]


def table(language: str) -> dict[str, str]:
    text = (FOLDER / "words" / f"{language}.js").read_text()
    return dict(re.findall(r'^  "([^"]+)": "(.*)",$', text, re.M))


def test_each_vendored_file_is_the_one_that_the_note_names():
    rows = re.findall(
        r"^\| (\S+) \| \S+ \| [\d.]+ \| \S+ \| [\w.-]+, (\S+) \| ([0-9a-f]{64}) \|$",
        (FOLDER / "VENDORED.md").read_text(),
        re.M,
    )
    held = {path.name for path in (FOLDER / "vendor").iterdir()}
    assert held == {name for name, _, _ in rows} | {licence for _, licence, _ in rows}
    for name, _, checksum in rows:
        assert sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == checksum, name


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path):
    hosts = set(re.findall(r"(?:https?:)?//([\w-]+\.[\w.-]+)", path.read_text()))
    assert hosts <= {"www.w3.org"}, "a namespace is the only address"


def test_both_languages_have_the_same_words():
    english, chinese = table("en"), table("zh")
    assert len(english) > 200
    # What is no translation but the gateway's own word needs none in English.
    assert set(english) == {key for key in chinese if key in english}
    assert {key for key in chinese if key not in english} == {
        key for key in chinese if key.startswith("word.") and key not in english
    }
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(
            re.findall(r"\{\w+\}", chinese[key])
        ), key


def test_every_word_that_is_asked_for_is_there_and_every_word_is_asked_for():
    english = table("en")
    code = "".join(path.read_text() for path in SCRIPTS if path.parent.name != "words")
    whole = set(re.findall(r'"([a-z_]+(?:\.[a-z0-9_]+)*)"', code))
    asked = set(re.findall(r'\bt\("([^"]+)"', code))
    starts = set(re.findall(r'\bt\("([a-z]+\.)" \+', code)) | {"word."}
    assert {key for key in asked if not key.endswith(".")} <= set(english)
    unused = {key for key in english if key not in whole and not key.startswith(tuple(starts))}
    assert not unused


def test_no_script_writes_html_or_styles_as_text():
    for path in SCRIPTS:
        assert not re.search(
            r"innerHTML|outerHTML|document\.write|\bstyle=|eval\(", path.read_text()
        )


def test_the_whole_page_is_small():
    assert sum(p.stat().st_size for p in SCRIPTS if p.parent.name != "words") < 80 * 1024
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 256 * 1024
