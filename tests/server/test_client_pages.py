"""docs/clients/: their snippets are read by what they are for, and what can be run here is run."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.sdk.programs import cline, environment
from tests.server.running import ROOT

DOCS = ROOT / "docs"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*sorted(DOCS.glob("clients/*.md")), *sorted(DOCS.glob("zh/clients/*.md"))]
HERE = "http://127.0.0.1:8999"
# What pages may give as base URL; the rest of a path is the client's.
BASES = {"/c", "/c/v1", "/c/v1beta", "/claude/api"}
# The first import of a snippet -> the pins in tests/sdk that have it.
ENVIRONMENTS = {
    "agents": "openai-agents",
    "langchain_anthropic": "langchain-anthropic",
    "langchain_google_genai": "langchain-google-genai",
    "langchain_openai": "llm-langchain",
}


def snippets(language: str, pages=PAGES) -> list:
    """One parameter for each fenced block: its text, with the page and its number as the id."""
    found = []
    for page in pages:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)
        name = page.relative_to(DOCS).with_suffix("") if DOCS in page.parents else page.stem
        found += [pytest.param(text, id=f"{name}-{n}") for n, text in enumerate(blocks, 1)]
    assert found, language
    return found


def module(snippet: str) -> str:
    """The package that a snippet imports first."""
    found = re.search(r"^(?:from|import) (?!asyncio)(\w+)", snippet, re.M)
    assert found, snippet
    return found[1]


def parts(runnable) -> list:
    return [
        each for each in snippets("python", [*READMES, *PAGES]) if runnable(module(each.values[0]))
    ]


def said(python: str, snippet: str, url: str) -> str:
    done = subprocess.run(
        [python, "-W", "ignore", "-c", snippet.replace(HERE, url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("snippet", snippets("python"))
def test_python_compiles(snippet):
    compile(snippet, "snippet", "exec")


@pytest.mark.parametrize("snippet", snippets("json"))
def test_json_is_json(snippet):
    json.loads(snippet)


@pytest.mark.parametrize("snippet", snippets("yaml"))
def test_yaml_is_yaml(snippet):
    assert yaml.safe_load(snippet)


@pytest.mark.parametrize("snippet", snippets("toml"))
def test_toml_is_toml(snippet):
    assert tomllib.loads(snippet)


@pytest.mark.parametrize("snippet", [*snippets("sh"), *snippets("js")])
def test_no_placeholder_is_left(snippet):
    assert "..." not in snippet and "TODO" not in snippet


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_page_names_a_base_url_of_the_gateway(page):
    told = set(re.findall(r":8999(/[\w/.-]*)?", page.read_text()))
    if page.stem != "curl":
        assert told & BASES and told <= BASES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_page_says_whether_it_was_tried(page):
    if page.parent.parent.name != "zh":
        text = page.read_text()
        assert re.search(r"^(Tried with|Not tried by|The project's tests run every)", text, re.M)


@pytest.mark.parametrize("snippet", parts(lambda name: name in ("anthropic", "google", "openai")))
def test_snippets_of_the_vendors_sdks_run(doors, snippet):
    assert said(sys.executable, snippet, doors.url).startswith("You said: ")


@pytest.mark.parametrize(
    "snippet", snippets("sh", [DOCS / "clients/curl.md", DOCS / "zh/clients/curl.md"])
)
def test_each_curl_is_answered(doors, snippet):
    command = snippet.replace("curl ", "curl -sS --fail-with-body ", 1).replace(HERE, doors.url)
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    text = done.stdout
    if '"stream": true' in snippet:
        assert text.startswith("data: ") and text.rstrip().endswith("data: [DONE]")
    elif "/models\n" in snippet:
        ids = [each["id"] for each in json.loads(text)["data"]]
        assert any(each.startswith("claude/claude-sonnet-4-5") for each in ids)
    else:
        assert "You said: Hello!" in text and json.loads(text)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first one installs
@pytest.mark.parametrize("snippet", parts(ENVIRONMENTS.__contains__))
def test_snippets_of_installed_clients_run(doors, snippet):
    python = environment(ENVIRONMENTS[module(snippet)]) / "python"
    told = said(str(python), snippet, doors.url)
    assert "You said: Hello!" in told or told.strip().isdecimal()


CLINES = snippets("sh", [DOCS / "clients/cline.md"])


def clines_answer(home, commands: str) -> str:
    """What shell commands with `cline` print, for a user with nothing but this home."""
    env = {
        "PATH": f"{cline().parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "CLINE_SESSION_BACKEND_MODE": "local",  # else it leaves a daemon behind
        "CLINE_NO_AUTO_UPDATE": "1",
        "DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        ["bash", "-ec", commands],
        cwd=home,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first one installs
@pytest.mark.parametrize("snippet", CLINES)
def test_clines_commands_are_answered(doors, tmp_path, snippet):
    told = clines_answer(tmp_path, snippet.replace(HERE, doors.url))
    assert told.count("You said: Say hello!") == snippet.count("Say hello!") > 0
    for model in re.findall(r"-m (\S+)", snippet):
        assert doors.wait_log(model=model.partition("/")[2], stream=True, outcome="complete")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", ["claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash"])
def test_cline_edits_a_file(doors, tmp_path, model):
    [first, *_] = CLINES[0].values[0].replace(HERE, doors.url).splitlines()
    file = tmp_path / "hello.py"
    file.write_text("print('old')\n")
    edit = json.dumps({"path": str(file), "old_text": "old", "new_text": "new"})
    prompt = shlex.quote(f"call editor with {edit}")
    told = clines_answer(tmp_path, f"{first}\ncline -m {model} {prompt}")
    assert "The tool said: " in told
    assert file.read_text() == "print('new')\n"
