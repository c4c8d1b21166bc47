"""The documentation's site: every page is in its order, and it builds without a broken link."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAV = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
MAKE = ["make", f"VENV={os.environ.get('VIRTUAL_ENV', ROOT / '.venv')}"]


def test_every_page_has_its_place():
    told = re.findall(r"- (?:[^:\n]+: )?(\S+\.md)$", NAV, re.M)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    from_beside = {"readme", "zh/readme", "security", "contributing", "changelog", "license"}
    beside = {f"{name}.md" for name in from_beside} | {"config-sample.md"}
    assert sorted(told) == sorted(pages | beside)


def test_the_landing_page_leads_to_every_page_for_users():
    for index, folder in (("index.md", "clients"), ("zh/index.md", "zh/clients")):
        page = ROOT / "docs" / index
        links = re.findall(r"\]\(([^)#]+)", page.read_text())
        there = {(page.parent / link).resolve() for link in links}
        assert set((ROOT / "docs" / folder).glob("*.md")) <= there
        assert {ROOT / "docs" / f"{name}.md" for name in ("errors", "limits", "access")} <= there


@pytest.mark.slow
@pytest.mark.timeout(600)  # the first one installs
def test_the_site_builds_strictly():
    done = subprocess.run([*MAKE, "docs"], cwd=ROOT, capture_output=True, text=True, check=False)
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("MkDocs cannot be installed here")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (ROOT / "build" / "site" / "clients" / "claude-code" / "index.html").read_text()
    assert "ANTHROPIC_BASE_URL" in page
    hosts = set(re.findall(r'(?:src|href)="https?://([^/"]+)[^"]*\.(?:js|css|woff2?)"', page))
    assert not hosts, "the site asks other hosts for its own files"
