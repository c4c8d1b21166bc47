"""/openapi.json and /docs of a running gateway, as a program, a fuzzer and a browser see them."""

import re
import shutil
import subprocess

import httpx
import pytest

from tests.sdk.programs import environment

CHROMIUM = shutil.which("chromium")
# Of whose answers nobody can promise a shape: an upstream makes them.
FOREIGN = ["Reverse proxies", "Web providers", "Websockets", "Embeddings, pictures, sound"]
CHECKS = ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]


def test_anybody_may_read_the_document(doors):
    told = httpx.get(f"{doors.url}/openapi.json", headers={"x-forwarded-for": "203.0.113.9"})
    assert told.status_code == 200 and told.headers["content-type"] == "application/json"
    assert told.json()["openapi"] == "3.1.0"
    assert httpx.get(f"{doors.url}/openapi.json").content == told.content


def test_the_page_loads_nothing_from_elsewhere(doors):
    page = httpx.get(f"{doors.url}/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self' 'sha256-" in policy
    assert "http://" not in page.text and "https://" not in page.text
    packed = httpx.get(f"{doors.url}/docs/rapidoc.js", headers={"accept-encoding": "gzip"})
    plain = httpx.get(f"{doors.url}/docs/rapidoc.js", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content and b"RapiDoc" in plain.content[:500]


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no browser found: apt install chromium")
def test_a_browser_shows_the_routes(doors):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark")
        said, asked = [], []
        page.on("console", lambda each: said.append(each.text) if each.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{doors.url}/docs")
        page.get_by_text("OpenAI's chat, by any upstream").first.wait_for(timeout=40_000)
        assert page.locator("rapi-doc").get_attribute("theme") == "dark"
        assert not said, said
        assert all(url.startswith(doors.url) for url in asked), asked
        browser.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first one installs
def test_a_fuzzer_finds_no_answer_that_the_document_does_not_know(doors):
    done = subprocess.run(
        [
            str(environment("schemathesis") / "schemathesis"),
            *("run", f"{doors.url}/openapi.json", "--max-time", "20", "--seed", "1"),
            *("--phases", "examples,fuzzing", "--checks", ",".join(CHECKS)),
            *("--continue-on-failure", "--request-timeout", "20", "--suppress-health-check", "all"),
            *("--exclude-path", "/admin/reload"),  # others use this gateway
            *("--exclude-path", "/admin/events"),  # without end
            *(word for tag in FOREIGN for word in ("--exclude-tag", tag)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested and int(tested[1]) > 50, done.stdout[-2000:]
