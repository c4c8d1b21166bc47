"""`run.py presets`, and what `check` and `check --live` say of upstreams."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import check_keys, upstream_list
from app.config.presets import PRESETS
from app.config.schema import Config, KeyEntry, Upstream
from tests.server.scripted_upstream import ScriptedUpstream

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- presets -->\n", "<!-- end of presets -->"
KEYS = [KeyEntry(id="a", val="key-a")]


def markdown() -> str:
    """The table of docs/upstreams.md; to renew it: python -m tests.cli.test_upstream_list"""
    lines = ["| " + " | ".join(upstream_list.HEAD) + " |", "|---|---|---|"]
    for name, address, variable in map(upstream_list.row, PRESETS):
        name, _, others = name.partition(", ")
        named = f"{name} ({others})" if others else name
        lines.append(f"| {named} | `{address}` | {variable} |")
    return "\n".join(lines) + "\n"


def test_the_page_has_the_presets_as_they_are():
    page = (ROOT / "docs" / "upstreams.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == markdown()


def test_presets_are_listed_with_address_and_variable():
    done = subprocess.run(
        [sys.executable, "run.py", "presets"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["name", "address", "variable"] and len(lines) == len(PRESETS) + 1
    assert ["deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"] in lines


def test_check_prints_the_address_of_each_upstream(tmp_path):
    file = tmp_path / "c.yaml"
    upstreams = ["deepseek", {"name": "lab", "api_url": "http://h:1/", "api_keys": []}]
    azure = {"name": "azure-deployments", "api_url": "https://r.example", "api_keys": []}
    file.write_text(json.dumps({"upstreams": [*upstreams, azure]}))
    done = subprocess.run(
        [sys.executable, "run.py", "check", "-c", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "DEEPSEEK_API_KEY": "k"},
    )
    assert "upstreams.deepseek is asked at https://api.deepseek.com/chat/completions" in done.stdout
    assert "upstreams.lab is asked at http://h:1/v1/chat/completions" in done.stdout
    assert (
        "upstreams.azure-deployments is asked at https://r.example/openai/deployments/MODEL"
        "/chat/completions?api-version=2024-10-21"
    ) in done.stdout


@pytest.fixture
def upstream():
    server = ScriptedUpstream()
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("entry", "answer", "state", "told"),
    [
        ({"path": "/v1"}, (200, {"data": []}), "valid", ""),
        ({"path": "/v1", "api_keys": []}, (200, []), "valid", ""),
        ({"path": "/v1"}, (401, {"detail": "Invalid API Key"}), "refused", "Invalid API Key"),
        ({"path": "/v1/v1"}, (404, {}), "unknown", "/v1/v1 is doubled: take /v1 off api_url"),
        ({"path": "/paas/v4/v1"}, (404, {}), "unknown", "/v4/v1 is doubled"),
        ({"path": "/x"}, (404, {}), "unknown", "/x/models; api_url is what stands before"),
        ({"path": "", "like": "cohere"}, (400, {"message": "no messages"}), "valid", ""),
        ({"path": "", "like": "cohere"}, (401, {"message": "no key"}), "refused", "no key"),
    ],
)
def test_a_live_check_asks_each_upstream(upstream, entry, answer, state, told):
    more = {name: value for name, value in entry.items() if name != "path"}
    lab = Upstream(
        **{"name": "lab", "api_url": upstream.url + entry["path"], "api_keys": KEYS} | more
    )
    status, body = answer
    upstream.script([{"status": status, "body_parts": [body]}])
    (finding,) = asyncio.run(check_keys.examine(Config(upstreams=[lab])))
    assert (finding.pool, finding.state) == ("upstreams.lab", state) and told in finding.told
    asked = upstream.asked[0]
    assert ("authorization" in asked.headers) == (more.get("api_keys") != [])
    assert "upstreams.lab" in check_keys.as_table([finding])


if __name__ == "__main__":
    path = ROOT / "docs" / "upstreams.md"
    head, _, rest = path.read_text().partition(BEGIN)
    path.write_text(head + BEGIN + markdown() + END + rest.partition(END)[2])
