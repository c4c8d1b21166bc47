"""The operators' page as a browser shows it."""

import shutil
import subprocess
import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.load import CHAT
from tests.server.running import Running, free_port, running

TOKEN = "operator-token-0123456789"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
ADMIN = {"authorization": f"Bearer {TOKEN}"}
_DRIVER, _BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (_DRIVER and _BROWSER),
        reason="no browser found: apt install chromium chromium-driver",
    ),
]


class Browser:
    """Chromium without a window, told what to do by the WebDriver protocol."""

    def __init__(self, url: str) -> None:
        options = {"binary": _BROWSER, "args": ["--headless=new", "--no-sandbox", "--disable-gpu"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        self._http = httpx.Client(base_url=url, timeout=30)
        self._path = "/session"
        session = self._do("", {"capabilities": wanted})
        self._path = f"/session/{session['sessionId']}"

    def close(self) -> None:
        self._http.delete(self._path)
        self._http.close()

    def open(self, url: str) -> None:
        self._do("/url", {"url": url})

    def resize(self, width: int) -> None:
        self._do("/window/rect", {"width": width, "height": 900})

    def run(self, script: str):
        return self._do("/execute/sync", {"script": script, "args": []})

    def until(self, script: str, seconds: float = 15):
        """What the expression says once it is true."""
        end = time.monotonic() + seconds
        while not (found := self.run(f"return {script}")):
            assert time.monotonic() < end, (script, self.run("return document.body.innerText"))
            time.sleep(0.05)
        return found

    def _do(self, path: str, body: dict):
        answer = self._http.post(self._path + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@pytest.fixture(scope="module")
def browser():
    port = free_port()
    process = subprocess.Popen(
        [_DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    made = None
    try:
        while made is None:
            try:
                httpx.get(f"{url}/status")
                made = Browser(url)
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.05)
        yield made
    finally:
        if made:
            made.close()
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    config = config_for(simulator.url, workers=1, admin={"token": TOKEN})
    with running(tmp_path_factory.mktemp("dashboard"), config) as gateway:
        yield gateway


def log_in(browser: Browser, gateway: Running) -> None:
    browser.open(f"{gateway.url}/admin/")
    if browser.until("!byId('door').hidden || !byId('shown').hidden") and browser.run(
        "return !byId('door').hidden"
    ):
        browser.run(f"byId('token').value = '{TOKEN}'; byId('door').requestSubmit();")
    browser.until("!byId('shown').hidden")


def cells(browser: Browser, table: str) -> list[dict[str, str]]:
    return browser.run(
        f"return [...byId('{table}').rows].slice(1).map(row => Object.fromEntries("
        "[...row.cells].map(cell => [cell.dataset.head, cell.innerText])))"
    )


def failed_call(gateway: Running) -> str:
    """The id of one that an upstream has refused."""
    answer = httpx.post(gateway.url + CHAT, json=BODY | {"model": "sim-400"})
    assert answer.status_code == 400
    return answer.headers["x-request-id"]


def test_errors_are_shown_whole_and_lead_to_their_story(browser, gateway):
    httpx.post(gateway.url + CHAT, json=BODY)
    failed = failed_call(gateway)
    browser.resize(1280)
    log_in(browser, gateway)
    browser.until(f"byId('errors').innerText.includes('{failed}')")
    (row,) = [row for row in cells(browser, "errors") if row["request"] == failed]
    assert (row["status"], row["outcome"]) == ("400", "upstream_error")
    assert {row["outcome"] for row in cells(browser, "errors")} == {"upstream_error"}
    assert all(row["id"] for row in cells(browser, "keys"))
    # Nothing stands off the screen.
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    fits = (
        "[...document.querySelectorAll('.wide')].every(box => box.scrollWidth <= box.clientWidth)"
    )
    assert browser.run(f"return {fits}")
    browser.run(f"[...document.links].find(link => link.innerText === '{failed}').click()")
    story = browser.until("byId('call').innerText.includes('attempts') && byId('call').innerText")
    assert failed in story and '"ended": "upstream_error: invalid_value"' in story


def test_a_selection_outlives_a_refresh(browser, gateway):
    log_in(browser, gateway)
    browser.run("getSelection().selectAllChildren(byId('keys').rows[1].cells[1])")
    chosen = browser.run("return String(getSelection())")
    browser.until("byId('about').innerText.startsWith('waits while text is selected')")
    assert chosen and browser.run("return String(getSelection())") == chosen
    browser.run("getSelection().removeAllRanges()")
    browser.until("!byId('about').innerText.startsWith('waits')")


def test_on_a_phone_the_states_of_the_keys_are_on_the_screen(browser, gateway):
    browser.resize(500)  # the least that a window of this browser may have
    log_in(browser, gateway)
    states = "[...byId('keys').querySelectorAll('td[data-head=state]')]"
    assert browser.run(
        f"return {states}.length >= 2 && {states}.every(cell => cell.innerText && "
        "cell.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.resize(1280)


def test_a_gateway_that_is_gone_is_told_and_its_figures_fade(browser, simulator, tmp_path):
    gateway = Running(tmp_path, config_for(simulator.url, admin={"token": TOKEN}))
    try:
        gateway.wait()
        log_in(browser, gateway)
        assert browser.run("return byId('gone').hidden")
        assert browser.run("return getComputedStyle(byId('shown')).opacity") == "1"
        gateway.stop()
        browser.until("!byId('gone').hidden")
        assert "does not answer" in browser.run("return byId('gone').innerText")
        browser.run("scrollTo(0, document.body.scrollHeight)")
        box = browser.run("return byId('gone').getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < box["bottom"] < 300
        assert float(browser.run("return getComputedStyle(byId('shown')).opacity")) < 0.6
    finally:
        gateway.stop()
