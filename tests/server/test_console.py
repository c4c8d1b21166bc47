"""The console at /admin/: what its routes let whom do, and its views in a real browser.

One gateway and one browser for all. Pictures of every view are written to build/screenshots/.
"""

import ast
import json
import math
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import httpx
import pytest

from app.accounting.sqlite_store import SqliteStore
from app.telemetry.call_log import CallRecord
from tests.accounting.batches import batch_of, call_of
from tests.sdk.install import AXE
from tests.server.conftest import config_for
from tests.server.load import CHAT
from tests.server.running import ROOT, alive, running
from tests.server.running import until as until_within

TOKEN = "operator-token-0123456789"
ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdefgh"
ADMIN = {"authorization": f"Bearer {TOKEN}"}
OWN_PAGE = {"x-gateway-console": "1", "sec-fetch-site": "same-origin"}
KEYS = {
    "openai": ("sk-fine-1111", "sk-limited-900-2222", "sk-dead-3333"),
    "claude": ("sk-ant-api03-fine-1", "sk-ant-limited-800-2", "sk-ant-limited-700-3"),
    "google_gemini": ("AIza-operators-one", "AIza-operators-two"),
}
until = partial(until_within, seconds=15)  # a browser is slow where much else runs
PICTURES = ROOT / "build" / "screenshots"
VIEWS = ("now", "keys", "calls", "tokens", "playground", "config")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    """Two workers, pools with bad keys, two people, and the calls of a minute."""
    config = config_for(simulator.url, workers=2, admin={"token": TOKEN})
    for family, keys in KEYS.items():
        upstream = {"api_url": f"{simulator.url}/{family.rpartition('_')[2]}"}
        named = [{"id": f"{family[0]}{n}", "val": val} for n, val in enumerate(keys, 1)]
        config[family] = upstream | {"api_keys": named}
    config["access"] = {
        "tokens": [
            {"id": "alice", "val": ALICE, "rpm": 6000},
            {"id": "bob", "val": BOB, "budget": {"tokens": 10}},
        ]
    }
    folder = tmp_path_factory.mktemp("console")
    earlier_calls(folder / "usage.db")
    with running(folder, config) as gateway:
        for _ in range(9):
            ask(gateway, "gpt-4o", stream=True)
            ask(gateway, "claude/claude-sonnet-4-5")
        ask(gateway, "gemini/gemini-2.5-flash", token=BOB)
        gateway.wait_log(token="bob")  # until it is booked, it holds all of his budget
        assert ask(gateway, "sim-400", token=BOB).status_code == 400
        yield gateway


def earlier_calls(ledger: Path) -> None:
    """A quarter of an hour in the ledger, as a gateway that was restarted finds it."""
    now, rows = int(time.time()), []
    shares = (("claude-api", "claude-sonnet-4-5", 3.0), ("openai-api", "gpt-4o", 2.0))
    shares += (("gemini-api", "gemini-2.5-flash", 1.2),)
    for provider, model, per_second in shares:
        for ago in range(3, 900, 3):
            wave = 1 + 0.4 * math.sin(ago / 90 + per_second) + 0.1 * math.sin(ago / 11)
            for n in range(round(3 * per_second * wave)):
                record = CallRecord(
                    request_id=f"{provider}-{ago}-{n}",
                    route=CHAT,
                    front="openai-chat",
                    token="carol",
                    provider=provider,
                    model=model,
                    key_id="k",
                    stream=n % 2 == 0,
                    attempts=1,
                    status=503 if (ago * 7 + n) % 61 == 0 else 200,
                    outcome="upstream_error" if (ago * 7 + n) % 61 == 0 else "complete",
                    first_event_ms=350 / per_second * wave * (1 + (n * 7 + ago) % 5 / 4),
                    total_ms=900 * wave,
                )
                record.estimate(400, 150)
                rows.append(call_of((now - ago) * 1000, record))
    store = SqliteStore(ledger)
    store.write(batch_of(rows, time=now))
    store.close()


def ask(gateway, model: str, token: str = ALICE, **more) -> httpx.Response:
    return httpx.post(
        gateway.url + CHAT,
        json={"model": model, "messages": [{"role": "user", "content": "hi"}], **more},
        headers={"authorization": f"Bearer {token}"},
        timeout=20,
    )


@contextmanager
def signed_in(gateway):
    """A client with the cookie, on a connection each, so that every worker is asked."""
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=gateway.url, headers=OWN_PAGE, limits=limits, timeout=20) as http:
        answer = http.post("/admin/session", json={"token": TOKEN})
        assert answer.status_code == 204, answer.text
        yield http


# --- the routes, without a browser ------------------------------------------------------------

READ = (
    "/admin/state",
    "/admin/keys",
    "/admin/config",
    "/admin/calls",
    "/admin/usage",
    "/admin/events",
    "/admin/series?span=15m&by=all",
    "/admin/requests/x",
    "/admin/playground/c/v1/models",
)
CHANGES = ("/admin/keys", "/admin/reload", "/admin/playground/c/v1/chat/completions")


def test_an_access_token_reaches_nothing(gateway):
    # Few tries with a wrong token: after twenty a minute the answer would be 429.
    given = {"authorization": f"Bearer {ALICE}"}
    others = ({}, {"x-access-token": ALICE}, {"cookie": f"any_proxy_console={ALICE}"})
    with httpx.Client(base_url=gateway.url) as http:
        for path in READ:
            for headers in (given, *others):
                assert http.get(path, headers=headers).status_code == 401, (path, headers)
        for path in CHANGES:
            answer = http.post(path, json={}, headers=given | OWN_PAGE)
            assert answer.status_code == 401, path


def test_the_cookie_opens_every_worker_and_no_script_reads_it(gateway):
    with signed_in(gateway) as http:
        for _ in range(8):
            assert http.get("/admin/session").json()["signed_in"]
            assert http.get("/admin/keys").status_code == 200
        answer = http.post("/admin/session", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=Strict", "Path=/admin"):
            assert word in cookie
        assert TOKEN not in cookie and "Secure" not in cookie
        https = http.post(
            "/admin/session", json={"token": TOKEN}, headers={"x-forwarded-proto": "https"}
        )
        assert "; Secure" in https.headers["set-cookie"]
        assert "Max-Age=0" in http.delete("/admin/session").headers["set-cookie"]
        assert http.get("/admin/keys").status_code == 401
    told = httpx.get(f"{gateway.url}/admin/session")
    assert told.status_code == 200 and told.json() == {
        "needs_token": True,
        "signed_in": False,
        "version": "",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"x-gateway-console": None},
        {"sec-fetch-site": None},
        {"sec-fetch-site": None, "origin": "https://elsewhere.example"},
        {"sec-fetch-site": None, "origin": "null"},
    ],
)
def test_another_sites_page_changes_nothing_with_the_cookie(gateway, headers):
    with signed_in(gateway) as http:
        for name in [name for name, value in headers.items() if value is None]:
            del http.headers[name]
        http.headers.update({name: value for name, value in headers.items() if value})
        order = {"action": "disable", "id": "g1"}
        for path in CHANGES:
            answer = http.post(path, json=order)
            assert answer.status_code == 403, answer.text
            assert answer.json()["error"]["code"] == "cross_site_request"
    state = httpx.get(f"{gateway.url}/admin/keys", headers=ADMIN).json()["keys"]
    assert "disabled" not in {key["state"] for key in state}


def test_without_sec_fetch_site_the_origin_says_whose_page_it_is(gateway):
    order = {"action": "reset", "id": "g1"}
    with signed_in(gateway) as http:
        del http.headers["sec-fetch-site"]
        for origin in (gateway.url, "https://ai.example"):
            headers = {"origin": origin, "x-forwarded-host": "ai.example"}
            assert http.post("/admin/keys", json=order, headers=headers).status_code == 200


def test_no_route_tells_a_secret(gateway):
    secrets = [TOKEN, ALICE, BOB, *(key for keys in KEYS.values() for key in keys)]
    with signed_in(gateway) as http:
        texts = {path: http.get(path).text for path in READ if path != "/admin/events"}
        texts["test"] = http.post("/admin/keys", json={"action": "test", "id": "o3"}).text
        texts["page"] = http.get("/admin/").text
        with http.stream("GET", "/admin/events") as stream:
            texts["events"] = "".join(islice(stream.iter_lines(), 9))
    assert '"finding"' in texts["test"] and "[secret]" in texts["/admin/config"]
    for path, text in texts.items():
        assert not [secret for secret in secrets if secret in text], path


def test_one_stream_has_figures_keys_and_calls_of_all_workers(gateway):
    with signed_in(gateway) as http, http.stream("GET", "/admin/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told, after = {}, None
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                if after is not None and name == "calls":
                    break  # the call that was made while the stream was open
                told.setdefault(name, data)
                if set(told) == {"figures", "keys", "calls"} and after is None:
                    after = ask(gateway, "gpt-4o").headers["x-request-id"]
        assert after in [call["request_id"] for call in data]
    figures = told["figures"]
    assert len(figures["workers"]) == 2
    assert figures["providers"]["openai-api"]["outcomes"]["complete"] >= 9
    assert sum(figures["providers"]["openai-api"]["first_event"]) >= 9
    assert len(figures["bounds"]) + 1 == len(figures["providers"]["claude-api"]["first_event"])
    assert len(told["calls"]) >= 18
    assert {key["pool"] for key in told["keys"]} == {f"{family}.api_keys" for family in KEYS}


def test_a_wrong_sign_in_is_told_and_is_no_failed_call(gateway):
    wrong = httpx.post(f"{gateway.url}/admin/session", json={"token": "wrong-token-wrong"})
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
    assert httpx.post(f"{gateway.url}/admin/session", content=b"{").status_code == 400
    state = httpx.get(f"{gateway.url}/admin/state", headers=ADMIN).json()
    assert "refused" not in state["outcomes"]
    assert wrong.headers["x-request-id"] not in [e["request_id"] for e in state["last_errors"]]
    with httpx.stream("GET", f"{gateway.url}/admin/events", headers=ADMIN) as stream:
        told = "".join(islice(stream.iter_lines(), 9))
    assert "/c/v1/chat/completions" in told and "/admin/*" not in told


def test_a_call_of_the_playground_shows_no_cookie_upstream(gateway, simulator):
    with signed_in(gateway) as http:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
        answer = http.post(f"/admin/playground{CHAT}", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "You said: hi"
        wrong = http.post("/admin/playground/v1/chat/completions", json=body)
        assert wrong.status_code == 404
        assert http.get("/admin/playground/admin/keys").status_code == 404
    (record,) = simulator.last(1)
    told = json.dumps(record)
    assert "any_proxy_console" not in told and TOKEN not in told
    (line,) = gateway.wait_log(request_id=answer.headers["x-request-id"])
    assert (line["route"], line["token"]) == (CHAT, "(console)")


def test_the_files_are_kept_and_asked_for_again(gateway):
    script = f"{gateway.url}/admin/console/app.js"
    first = httpx.get(script)
    assert first.headers["content-type"].startswith("text/javascript")
    again = httpx.get(script, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    for path in ("../routes/admin.py", "%2e%2e/routes/admin.py", "nothing.js", ""):
        assert httpx.get(f"{gateway.url}/admin/console/{path}").status_code == 404


def test_a_span_or_a_group_that_is_not_offered_is_a_400(gateway):
    for query in ("span=1y", "by=colour"):
        answer = httpx.get(f"{gateway.url}/admin/series?{query}", headers=ADMIN)
        assert answer.status_code == 400


# --- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    if BROWSER is None:
        pytest.skip("no browser found: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    try:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
    finally:
        playwright.stop()


@contextmanager
def a_page(chromium, gateway, *, sign_in: bool = True, **options):
    """A page in a browser profile of its own. Whatever it complains of fails the test."""
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(15_000)
    if sign_in:
        with signed_in(gateway) as http:
            value = http.cookies["any_proxy_console"]
        context.add_cookies(
            [{"name": "any_proxy_console", "value": value, "url": f"{gateway.url}/admin/"}]
        )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda sent: complaints.append(sent.url) if _is_foreign(sent.url) else None)

    def _is_foreign(url: str) -> bool:
        return not url.startswith((gateway.url, "data:"))

    try:
        page.goto(f"{gateway.url}/admin/")
        if sign_in:
            page.wait_for_selector(".troubles li")
        page.complaints = complaints
        yield page
        assert not complaints
    finally:
        context.close()


@pytest.fixture(scope="module")
def shared(chromium, gateway):
    """One signed-in page for all tests that leave it as it was."""
    with a_page(chromium, gateway) as page:
        yield page


def go(page, view: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", f"#/{view}")
    page.wait_for_selector(f'nav a[aria-current="page"][href="#/{view.partition("/")[0]}"]')


def test_signing_in_by_the_form(chromium, gateway):
    with a_page(chromium, gateway, sign_in=False) as page:
        page.get_by_label("admin.token").fill("a-wrong-token-0123")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("This is not admin.token").wait_for()
        picture(page, "sign-in")
        page.get_by_label("admin.token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".troubles li")
        assert page.evaluate("document.cookie") == ""
        assert TOKEN not in page.content()
        assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})") in (
            '{"any-proxy.theme":"auto"}',
        )
        page.reload()  # the cookie stays
        page.wait_for_selector(".tiles")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("admin.token").wait_for()
        page.get_by_label("admin.token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(".tiles")
        page.context.clear_cookies()  # as if its time were over
        page.evaluate("() => { location.hash = '#/config'; }")
        page.get_by_label("admin.token").wait_for()
        page.complaints[:] = [each for each in page.complaints if "401" not in each]


def test_what_is_wrong_stands_at_the_top_in_words(shared, gateway):
    go(shared, "now")
    top = shared.locator(".troubles")
    top.get_by_text(re.compile(r"2 of 3 keys in claude\.api_keys cool down until \d")).wait_for()
    top.get_by_text("1 of 3 keys in openai.api_keys: refused by the upstream").wait_for()
    assert "All is well" not in top.inner_text()
    top.get_by_role("link", name="claude.api_keys").click()
    shared.get_by_role("heading", name="Keys", level=1).wait_for()


def test_plots_of_three_spans_by_provider_model_and_token(shared, gateway):
    go(shared, "now")
    legends = shared.locator(".legend li")
    shared.wait_for_selector(".plot canvas")
    assert shared.locator(".plot").count() == 5
    assert "Requests per second" in shared.locator(".plot").first.inner_text()
    for by, name in (("Provider", "claude-api"), ("Model", "gpt-4o"), ("Token", "bob")):
        shared.get_by_role("button", name=by, exact=True).click()
        legends.get_by_text(name).first.wait_for()
        if by == "Provider":
            for _ in range(12):  # so that something happens in the picture
                ask(gateway, "claude/claude-sonnet-4-5", stream=True)
            shared.locator(".tile").get_by_text(re.compile(r"^[1-9]\d* ms$")).first.wait_for()
            picture(shared, "readme")  # docs/console.png is a copy of it
    for span in ("1 day", "30 days"):
        shared.get_by_role("button", name=span).click()
        legends.get_by_text("alice").first.wait_for()
    shared.get_by_text("Requests per day").wait_for()
    shared.get_by_role("button", name="15 min").click()
    shared.get_by_role("button", name="All", exact=True).click()
    shared.get_by_text("Requests per second").wait_for()


def test_keys_are_disabled_enabled_reset_and_tested(shared, gateway):
    go(shared, "keys")
    assert selection_after_some_events(shared, "tbody td") == "o1"

    def states() -> dict[str, str]:
        keys = httpx.get(f"{gateway.url}/admin/keys", headers=ADMIN).json()["keys"]
        return {key["id"]: "models" if key["models"] else key["state"] for key in keys}

    shared.get_by_text("1 of 3 usable").first.wait_for()
    shared.get_by_role("button", name="Disable: g1").click()
    shared.locator(".troubles").get_by_text("1 of 2 keys in google_gemini.api_keys").wait_for()
    assert states()["g1"] == "disabled"
    shared.get_by_role("button", name="Enable: g1").click()
    shared.get_by_role("button", name="Disable: g1").wait_for()
    assert states()["g1"] == "awake"
    assert states()["c2"] == "models"
    shared.get_by_role("button", name="Reset: c2").click()
    shared.get_by_role("button", name="Reset: c2").wait_for(state="detached")
    assert states()["c2"] == "awake"
    shared.get_by_role("button", name="Test: o1").click()
    shared.locator(".finding").get_by_text("valid").wait_for()
    shared.get_by_role("button", name="Test: o3").click()
    shared.locator(".finding").get_by_text("Incorrect API key").wait_for()


def test_a_call_appears_live_and_has_its_trail(shared, gateway):
    go(shared, "calls")
    shared.wait_for_selector("tbody tr")
    id = ask(gateway, "gemini/sim-503-then-ok-console").headers["x-request-id"]
    link = shared.locator(f'a[href="#/calls/{id}"]')
    link.wait_for()
    shared.get_by_label("Filter").fill(id)
    assert shared.locator("tbody tr").count() == 1
    link.click()
    shared.get_by_role("heading", name="sim-503-then-ok-console").wait_for()
    assert shared.locator(".timing rect.bad").count() >= 1
    assert shared.locator(".timing rect.good").count() == 1
    assert "another key or model" in shared.inner_text("main")
    picture(shared, "trail")
    curl = copied(shared, "Copy as curl")
    assert f"'{gateway.url}{CHAT}'" in curl and "$ANY_PROXY_TOKEN" in curl
    assert not [secret for secret in (TOKEN, ALICE, *KEYS["google_gemini"]) if secret in curl]
    shared.get_by_role("link", name="All calls").click()
    shared.get_by_label("Filter").wait_for()


def test_the_ledger_is_searched(shared):
    go(shared, "calls")
    shared.get_by_role("button", name="Search the ledger").click()
    shared.get_by_label("Token").fill("bob")
    shared.keyboard.press("Enter")
    shared.get_by_text(re.compile(r"Calls found: [2-9]")).wait_for()
    assert set(shared.locator('td[data-head="Token"]').all_inner_texts()) == {"bob"}
    shared.get_by_label("Status").fill("400")
    shared.keyboard.press("Enter")
    shared.get_by_text("Calls found: 1").wait_for()
    shared.get_by_label("Status").fill("many")
    shared.keyboard.press("Enter")
    shared.get_by_role("alert").get_by_text("status").wait_for()
    shared.complaints[:] = [each for each in shared.complaints if "400" not in each]


def test_people_their_limits_and_usage(shared):
    go(shared, "tokens")
    row = shared.locator("tbody tr").filter(has_text="alice").first
    row.get_by_text("rpm 6,000").wait_for()
    until(lambda: int(row.locator('td[data-head="Calls"]').inner_text()) >= 18)
    spent = shared.locator("tbody tr").filter(has_text="bob").first
    spent.get_by_text("10 tokens / month").wait_for()
    spent.get_by_text("80% tokens").wait_for()
    shared.locator(".troubles").get_by_text("Token bob has used 80% of its budget").wait_for()
    row.get_by_role("button").click()
    shared.get_by_role("heading", name="Models of alice").wait_for()
    shared.locator(".card").get_by_text("claude-sonnet-4-5").wait_for()


def test_tokens_are_added_disabled_and_removed(shared, gateway):
    def status() -> int:
        headers = {"authorization": f"Bearer {value}"}
        return httpx.get(f"{gateway.url}/c/v1/models", headers=headers, timeout=30).status_code

    go(shared, "tokens")
    shared.locator("summary").get_by_text("Add a token").click()
    shared.get_by_label("id", exact=True).fill("carol")
    shared.get_by_label("Expires (empty: never)").fill("30d")
    shared.get_by_label("Budget in USD").fill("5")
    shared.get_by_role("button", name="Add a token", exact=True).click()
    shared.get_by_text("The token of carol, shown only now:").wait_for()
    value = shared.locator("details code").inner_text()
    assert status() == 200
    row = shared.locator("tbody tr").filter(has_text="carol").first
    row.get_by_text("$5 / day").wait_for()
    row.get_by_role("button", name="Disable: carol").click()
    row.get_by_text("disabled", exact=True).wait_for()
    assert status() == 401
    row.get_by_role("button", name="Enable: carol").click()
    row.get_by_text("enabled", exact=True).wait_for()
    assert status() == 200
    row.get_by_role("button", name="Remove: carol", exact=True).click()
    row.get_by_role("button", name="Really remove: carol").click()
    row.wait_for(state="detached")
    assert status() == 401
    shared.get_by_label("id", exact=True).fill("alice")  # the config has this one
    shared.get_by_role("button", name="Add a token", exact=True).click()
    shared.get_by_role("alert").get_by_text("the config has a token of this id").wait_for()
    shared.complaints[:] = [each for each in shared.complaints if "409" not in each]


FRONTS = ("OpenAI Chat Completions", "Anthropic Messages", "OpenAI Responses", "Gemini")
PROMPTED = 'call get_weather with {"city": "Paris"}'


@pytest.mark.parametrize("front", FRONTS)
def test_a_chat_by_every_front_streams_text_and_tools(shared, front):
    go(shared, "playground")
    shared.get_by_label("Model", exact=True).fill("claude/claude-sonnet-4-5")
    options = shared.get_by_label("Front").locator("option").all_inner_texts()
    (title,) = [option for option in options if option.startswith(front)]
    shared.get_by_label("Front").select_option(title)
    say(shared, "Hello!")
    answers = shared.locator(".turn.assistant")
    answers.get_by_text("You said: Hello!").wait_for()
    answers.get_by_role("link", name="trail").wait_for()
    assert "tokens" in answers.last.inner_text()
    assert "data: " in shared.locator("pre.stream").inner_text()
    if not shared.get_by_label("Tools").is_visible():
        shared.get_by_text("System prompt and tools").click()
    shared.get_by_role("button", name="Sample tool").click()
    say(shared, PROMPTED)
    shared.locator(".tool").get_by_text("get_weather").wait_for()
    shared.locator(".tool").get_by_text('"Paris"').wait_for()
    picture(shared, "playground-chat")
    ast.parse(copied(shared, "Copy as Python"))
    assert "$ANY_PROXY_TOKEN" in copied(shared, "Copy as curl")
    assert "process.env.ANY_PROXY_TOKEN" in copied(shared, "Copy as JavaScript")
    shared.get_by_label("Tools").fill("")
    shared.get_by_role("button", name="Clear").click()


def test_a_picture_is_sent_and_stop_stops(shared, gateway, simulator):
    go(shared, "playground")
    shared.get_by_label("Front").select_option("OpenAI Chat Completions")
    shared.get_by_label("Model", exact=True).fill("gpt-4o")
    shared.locator('input[type="file"]').set_input_files(
        {"name": "dot.png", "mimeType": "image/png", "buffer": PNG}
    )
    shared.wait_for_selector("form img.picture")
    say(shared, "What is this?")
    shared.locator(".turn.assistant footer a").wait_for()
    assert "data:image/png;base64," in shared.locator("pre").first.inner_text()
    shared.get_by_role("button", name="Clear").click()
    shared.get_by_label("Model", exact=True).fill("sim-long-500+drip")
    say(shared, "Count.")
    until(lambda: shared.locator(".turn.assistant .text").count())
    shared.get_by_role("button", name="Stop").click()
    shared.get_by_text("Stopped.").wait_for()
    shared.get_by_role("button", name="Clear").click()
    gateway.wait_log(model="sim-long-500+drip", outcome="client_gone")


def test_a_refused_call_of_the_playground_is_told(shared):
    go(shared, "playground")
    shared.get_by_label("Model", exact=True).fill("sim-400")
    say(shared, "Hello?")
    shared.locator(".turn .problem").wait_for()
    shared.get_by_role("button", name="Clear").click()
    shared.complaints[:] = [each for each in shared.complaints if "400" not in each]


def test_a_chat_is_kept_only_if_the_user_says_so(chromium, gateway):
    with a_page(chromium, gateway) as page:
        go(page, "playground")
        page.get_by_label("Model", exact=True).fill("gpt-4o")
        say(page, "Remember me")
        page.locator(".turn.assistant footer a").wait_for()
        go(page, "now")
        go(page, "playground")
        assert page.locator(".turn").count() == 0
        assert "Remember" not in page.evaluate("JSON.stringify({...localStorage})")
        page.get_by_label("Keep in this browser").check()
        say(page, "Remember this")
        page.locator(".turn.assistant footer a").wait_for()
        page.reload()
        page.get_by_text("You said: Remember this").wait_for()
        page.get_by_label("Keep in this browser").uncheck()
        # Preact runs what follows from a change a frame later.
        page.wait_for_function("!JSON.stringify({...localStorage}).includes('Remember')")


def test_the_config_its_mistakes_by_line_and_a_reload(shared, gateway):
    go(shared, "config")
    shared.get_by_label("Filter").fill("api_keys")
    rows = shared.locator(".effective tbody tr")
    rows.first.wait_for()
    assert "[secret]" in rows.filter(has_text="openai.api_keys[0].val").inner_text()
    before = gateway.file.read_text()
    config = json.loads(before)
    try:
        gateway.file.write_text(json.dumps(config | {"drain_secondz": 5}, indent=1))
        line = 1 + gateway.file.read_text()[: gateway.file.read_text().index("drain")].count("\n")
        shared.get_by_role("button", name="Check the file").click()
        shared.get_by_text(f"c.yaml:{line}:").first.wait_for()
        shared.get_by_role("button", name="Reload").click()
        shared.get_by_text("Not reloaded").wait_for()
        shared.locator(".troubles").get_by_text("The last reload failed").wait_for()
        shared.complaints[:] = [each for each in shared.complaints if "400" not in each]
        gateway.file.write_text(json.dumps(config | {"drain_seconds": 5}))
        shared.get_by_role("button", name="Reload").click()
        shared.get_by_text("Reloaded", exact=True).wait_for()
        # The stream came from a worker that has left: the browser asked the next one.
        seen = shared.evaluate("import('./console/live.js').then(it => it.live.seen)")
        until(
            lambda: shared.evaluate("import('./console/live.js').then(it => it.live.seen)") > seen
        )
    finally:
        gateway.file.write_text(before)


def test_by_keyboard_alone(shared):
    go(shared, "now")
    shared.reload()
    shared.wait_for_selector(".tiles")
    shared.keyboard.press("Tab")
    assert shared.evaluate("document.activeElement.className") == "skip"
    shared.keyboard.press("Enter")
    assert shared.evaluate("document.activeElement.tagName") == "H1"
    shared.locator('nav a[href="#/keys"]').focus()
    shared.keyboard.press("Enter")
    shared.get_by_role("heading", name="Keys", level=1).wait_for()
    assert shared.evaluate("document.activeElement.innerText") == "Keys"
    assert shared.title() == "Keys · any-proxy"


def test_an_address_that_is_none_shows_a_view_all_the_same(chromium, gateway):
    with a_page(chromium, gateway) as page:
        page.goto(f"{gateway.url}/admin/#/keys/100%")
        page.reload()
        page.get_by_role("heading", level=1).wait_for()


# Nothing stands off the screen of a phone.
FITS = """document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll('td')]
  .every(cell => cell.getBoundingClientRect().right <= innerWidth + 1)"""
WAIT_FOR = {"now": ".plot canvas", "playground": "#models option"}


def test_a_plot_that_is_not_yet_redrawn_does_not_widen_the_page(chromium, gateway):
    """A plot has the width of before until the frame after a phone is turned."""
    with a_page(chromium, gateway) as page:
        go(page, "keys")
        page.evaluate("() => { ResizeObserver = class { observe() {} disconnect() {} }; }")
        go(page, "now")
        page.wait_for_selector(".plot canvas")
        page.set_viewport_size(PHONE)
        assert page.evaluate(FITS)
        canvas = page.locator(".plot canvas").first
        assert canvas.evaluate("it => it.getBoundingClientRect().right") > PHONE["width"]


def test_long_names_stay_on_the_screen_of_a_phone(chromium, gateway):
    id, model = "t" * 128, "m" * 128
    order = {"action": "add", "id": id, "budget": {"tokens": 1}, "models": [model]}
    url = f"{gateway.url}/admin/tokens"
    value = httpx.post(url, json=order, headers=ADMIN, timeout=20).json()["value"]
    try:
        call = ask(gateway, model, token=value).headers["x-request-id"]
        with a_page(chromium, gateway, viewport={"width": 320, "height": 640}) as page:
            page.locator(".troubles").get_by_text(f"Token {id} has spent").wait_for()
            plot_of(page, [1, 2, 3], label=model)
            name = page.locator("#plot-of .legend li")
            assert name.evaluate("it => it.getBoundingClientRect().right") <= 320
            for view in (*VIEWS, f"calls/{call}"):
                go(page, view)
                page.wait_for_selector(WAIT_FOR.get(view, "tbody tr"), state="attached")
                assert page.evaluate(FITS), view
            go(page, "tokens")
            page.get_by_role("button", name=id, exact=True).click()
            page.get_by_role("heading", name=f"Models of {id}").wait_for()
            assert page.evaluate(FITS)
            page.set_viewport_size(DESKTOP)
            go(page, "calls")
            time = page.locator(f'a[href="#/calls/{call}"]')
            time.wait_for()
            assert time.evaluate("it => it.getClientRects().length") == 1, "broken over lines"
    finally:
        httpx.post(url, json={"action": "remove", "id": id}, headers=ADMIN, timeout=20)


def test_a_value_without_neighbours_is_seen_in_a_plot(shared):
    """Few calls: their error rate and first event stand alone between steps without calls."""
    one, other = plot_of(shared, [None, 1, None]), plot_of(shared, [None, None, 1])
    shared.evaluate("document.getElementById('plot-of').remove()")
    assert one != other


def plot_of(page, values: list, label: str = "a") -> str:
    """Draws a plot of its own below the page. Returns its pixels."""
    return page.evaluate(
        """async ([values, label]) => {
          const { Plot } = await import("./console/plot.js");
          const { html, render } = await import("./console/ui.js");
          document.getElementById("plot-of")?.remove();
          const box = document.createElement("main");
          box.id = "plot-of";
          document.body.append(box);
          const lines = [{ label, values }];
          const given = { title: "", times: [0, 60, 120], lines, format: String };
          render(html`<${Plot} ...${given} />`, box);
          await new Promise(done => setTimeout(done, 100));
          return box.querySelector("canvas").toDataURL();
        }""",
        [values, label],
    )


@pytest.mark.parametrize("view", VIEWS)
def test_axe_objects_to_nothing_in_light_in_the_dark_and_on_a_phone(shared, view):
    if not AXE.is_file():
        pytest.skip("no axe-core: run `python -m tests.sdk.install`")
    go(shared, view)
    shared.wait_for_selector(WAIT_FOR.get(view, "tbody tr"), state="attached")
    if view == "calls":
        shared.get_by_label("Only failed").check()  # fewer rows to look at
    if view == "config":
        shared.get_by_label("Filter").fill("api_keys")
    if not shared.evaluate("'axe' in window"):
        shared.evaluate(AXE.read_text())
    found = {}
    try:
        for name, colors, size, rules in LOOKS:
            shared.emulate_media(color_scheme=colors)
            shared.set_viewport_size(size)
            assert shared.evaluate(FITS if name == "phone" else "true")
            picture(shared, f"{view}-{name}", full=view != "config")
            options = {"resultTypes": ["violations"], **rules}
            result = shared.evaluate("options => axe.run(document, options)", options)
            if objections := list(map(objection, result["violations"])):
                found[name] = objections
    finally:
        shared.emulate_media(color_scheme="light")
        shared.set_viewport_size(DESKTOP)
    assert not found


DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS = (
    ("light", "light", DESKTOP, {}),
    ("dark", "dark", DESKTOP, {"runOnly": ["color-contrast"]}),
    ("phone", "light", PHONE, {}),
)


def objection(violation: dict) -> tuple:
    nodes = [(node["target"], node["failureSummary"]) for node in violation["nodes"]]
    return violation["id"], nodes[:3]


def test_in_chinese(chromium, gateway):
    phone = {"viewport": PHONE, "locale": "zh-CN", "color_scheme": "dark"}
    with a_page(chromium, gateway, **phone) as page:
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        assert page.locator("nav a").all_inner_texts() == [
            "概览", "密钥", "调用", "令牌", "试用", "配置",
        ]  # fmt: skip
        page.locator(".troubles").get_by_text("3 个密钥中有 1 个被上游拒绝").wait_for()
        page.wait_for_selector(".plot canvas")
        picture(page, "now-zh", full=True)
        page.get_by_role("button", name="English").click()
        page.get_by_role("heading", name="Now").wait_for()
        assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.slow
def test_a_gateway_that_is_gone_is_told_and_its_figures_fade(chromium, gateway):
    with a_page(chromium, gateway) as page:
        workers = gateway.workers()
        try:
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            page.get_by_role("alert").get_by_text("The gateway does not answer").wait_for()
            assert (
                float(page.evaluate("getComputedStyle(document.querySelector('.tiles')).opacity"))
                < 0.6
            )
            assert page.locator(".troubles li").count() == 0
            picture(page, "gone")
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        page.wait_for_selector(".troubles li")
        assert all(map(alive, workers))


def selection_after_some_events(page, selector: str) -> str:
    """What stays selected of the element that was selected before new figures came."""
    page.evaluate("css => getSelection().selectAllChildren(document.querySelector(css))", selector)
    seen = "import('./console/live.js').then(it => it.live.seen)"
    before = page.evaluate(seen)
    until(lambda: page.evaluate(seen) > before + 2)
    return page.evaluate("String(getSelection())")


def say(page, text: str) -> None:
    page.get_by_role("textbox", name=re.compile("^Message")).fill(text)
    page.keyboard.press("Enter")


def copied(page, button: str) -> str:
    """What a button would put on the clipboard."""
    page.evaluate(
        """() => { navigator.clipboard.writeText = async text => { window.copied = text; } }"""
    )
    page.get_by_role("button", name=button).click()
    return until(lambda: page.evaluate("window.copied"))


def picture(page, name: str, *, full: bool = False) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=full, animations="disabled")


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000"
    "00030101001805a8df0000000049454e44ae426082"
)
