"""The lock: every way of showing a token, and of not having one."""

import pytest
from sanic.compat import Header

from app.auth import authenticate as room
from app.auth.authenticate import Access, same
from app.auth.caller import Caller
from app.config.schema import Access as Settings
from app.config.schema import AccessToken, Config
from app.wire.errors import GatewayError

ALICE, BOB = "alice-0123456789-token", "bob-9876543210-token"
LOCAL, FAR = "127.0.0.1", "198.51.100.7"


def lock(*tokens, protected=True, proxies=()):
    listed = [AccessToken(id=val.partition("-")[0], val=val) for val in tokens]
    return Access(
        Config(access=Settings(tokens=listed, protected=protected), trusted_proxies=list(proxies))
    )


def ask(door, address=FAR, path="/v1/x", query="", **headers):
    """The caller, and what is left of headers and query."""
    pairs = {name.replace("_", "-"): value for name, value in ({"host": "x"} | headers).items()}
    held = Header()
    for name, value in pairs.items():
        for one in value if isinstance(value, list) else [value]:
            held.add(name, one)
    lines = "".join(f"\r\n{name}: {value}" for name, value in held.items())
    head = f"GET {path}{'?' if query else ''}{query} HTTP/1.1{lines}".encode(
        errors="surrogateescape"
    )
    caller, query = door.admit(door.peer(address), path, query, set(held), held, head)
    return caller, held, query


def refused(door, *args, **kwargs):
    with pytest.raises(GatewayError) as caught:
        ask(door, *args, **kwargs)
    return caught.value


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ALICE}"},
        {"authorization": f"bearer  {ALICE} "},
        {"authorization": ALICE},
        {"x_api_key": ALICE},
        {"x_goog_api_key": ALICE},
        {"x_access_token": ALICE},
        {"authorization": "Bearer pool", "x_api_key": ALICE},
    ],
)
def test_a_token_may_stand_where_sdks_put_their_key_and_is_taken_off(headers):
    caller, left, _ = ask(lock(ALICE, BOB), **headers)
    assert caller.token.id == "alice" and caller.may_use_keys
    assert not any(ALICE in value for value in left.values())


def test_the_query_key_counts_on_gemini_and_travels_nowhere():
    door = lock(ALICE)
    for written in (ALICE, ALICE.replace("-", "%2D")):
        caller, _, query = ask(door, path="/gemini/v1beta/models", query=f"a=1&key={written}&b=2")
        assert caller.token.id == "alice" and query == "a=1&b=2"
    assert refused(door, path="/v1/x", query=f"key={ALICE}").status == 401


def test_beside_our_own_header_the_callers_credential_stays():
    caller, left, _ = ask(lock(ALICE), authorization="Bearer sk-own", x_access_token=ALICE)
    assert caller.token.id == "alice"
    assert left["authorization"] == "Bearer sk-own" and "x-access-token" not in left


def test_of_two_tokens_the_one_in_our_own_header_counts_and_both_go():
    caller, left, _ = ask(lock(ALICE, BOB), authorization=ALICE, x_access_token=BOB)
    assert caller.token.id == "bob" and list(left) == ["host"]


def test_a_token_said_twice_goes_twice():
    _, left, _ = ask(lock(ALICE), authorization=[f"Bearer {ALICE}", "Bearer sk-own"])
    assert left.getall("authorization") == ["Bearer sk-own"]


def test_a_token_where_nobody_asked_for_it_is_taken_off_as_well():
    door = lock(ALICE)
    _, left, query = ask(
        door, authorization=ALICE, cookie=f"a={ALICE}; b", x_note="fine", query=f"a=b&t={ALICE}"
    )
    assert sorted(left) == ["host", "x-note"] and query == "a=b"
    assert refused(door, path=f"/v1/{ALICE}", authorization=ALICE).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer pool"},
        {"authorization": "EMPTY"},
        {"x_api_key": "none"},
        {"authorization": f"Bearer {ALICE[:-1]}"},
        {"authorization": f"Bearer {ALICE}x"},
        {"authorization": "Bearer sk-own-upstream-key"},
        {"x_access_token": "wrong"},
        {"cookie": ALICE},
        {"authorization": f"Bearer {ALICE.upper()}"},
        {"authorization": "Bearer caf\udcc3"},
    ],
)
def test_with_tokens_nobody_comes_in_without_one(headers):
    for address in (FAR, LOCAL):
        error = refused(lock(ALICE), address, **headers)
        assert (error.status, error.code) == (401, "access_denied")
        assert "x-access-token" in error.message


def test_without_tokens_only_this_machine_may_use_the_keys():
    door = lock()
    for address in (LOCAL, "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        caller, _, _ = ask(door, address)
        assert caller.may_use_keys and caller.is_local and caller.is_sole
    for address in (FAR, "10.0.0.1", "", "fe80::1", "::ffff:10.0.0.1"):
        caller, _, _ = ask(door, address)
        assert not caller.may_use_keys
        with pytest.raises(GatewayError) as caught:
            caller.need_keys()
        assert caught.value.status == 401
        assert "access.tokens" in caught.value.message
        assert "access.protected" in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        "x_forwarded_for", "x_forwarded_host", "x_forwarded_proto", "x_forwarded_anything",
        "forwarded", "via", "x_real_ip", "true_client_ip", "cf_connecting_ip", "x_client_ip",
    ],
)  # fmt: skip
def test_a_request_that_was_forwarded_is_not_of_this_machine(name):
    assert not ask(lock(), LOCAL, **{name: "127.0.0.1"})[0].may_use_keys
    trusting = lock(proxies=["127.0.0.0/8"])
    assert not ask(trusting, LOCAL, **{name: "127.0.0.1"})[0].may_use_keys


@pytest.mark.parametrize(
    ("headers", "is_local"),
    [
        ({"host": "localhost:8999"}, True),
        ({"host": "127.0.0.1:8999"}, True),
        ({"host": "[::1]:8999"}, True),
        ({"host": "my-machine"}, True),
        ({"host": "my-machine.local"}, True),
        ({"host": "evil.example"}, False),
        ({"host": "127.0.0.1.evil.example:8999"}, False),
        ({"host": "localhost.evil.example"}, False),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "http://127.0.0.1"}, True),
        ({"origin": "app://obsidian.md"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://localhost.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-origin"}, True),
    ],
)
def test_a_web_page_of_somebody_else_is_not_of_this_machine(headers, is_local):
    assert ask(lock(), LOCAL, **headers)[0].may_use_keys is is_local


def test_the_open_door_lets_everybody_use_the_keys():
    assert ask(lock(protected=False), FAR)[0].may_use_keys
    assert (
        refused(lock(ALICE, protected=False), FAR).status == 401
    )  # tokens are a lock all the same


@pytest.mark.parametrize("path", ["/ping", "/healthz", "/readyz", "/ping/", "/metrics", "/admin/x"])
def test_what_has_no_lock_or_its_own(path):
    assert ask(lock(ALICE), FAR, path)[0].token is None


@pytest.mark.parametrize("path", ["/pingx", "/ping/x", "/v1/ping", "/adminx", "/%61dmin", "//ping"])
def test_what_only_looks_like_it_is_locked(path):
    assert refused(lock(ALICE), FAR, path).status == 401


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (FAR, "203.0.113.1", FAR),  # not one of ours: a claim
        ("10.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.1", "203.0.113.1"),
        ("10.0.0.1", "203.0.113.1, 10.0.0.2", "203.0.113.1"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.1,10.0.0.2"], "203.0.113.1"),
        ("10.0.0.1", "127.0.0.1, 203.0.113.1:4711", "203.0.113.1"),
        ("10.0.0.1", "[2001:db8::1]:80", "2001:db8::1"),
        ("10.0.0.1", "1.1.1.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", ",".join(["10.0.0.9"] * 100), "10.0.0.9"),
        ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
    ],
)
def test_x_forwarded_for_is_believed_as_far_as_our_own_proxies_wrote_it(peer, forwarded, address):
    door = lock(ALICE, proxies=["10.0.0.0/8"])
    caller, _, _ = ask(door, peer, authorization=ALICE, x_forwarded_for=forwarded)
    assert caller.address == address


def test_guessing_is_slowed_down_by_address_and_friends_go_on(monkeypatch):
    door = lock(ALICE, BOB)
    ask(door, FAR, authorization=ALICE)
    for _ in range(20):
        assert refused(door, FAR, authorization="Bearer wrong").status == 401
    error = refused(door, FAR, authorization="Bearer wrong")
    assert (error.status, error.code) == (429, "too_many_failures")
    assert 0 < error.retry_after <= 60
    assert refused(door, FAR, authorization=BOB).status == 429  # right, but never seen from here
    assert refused(door, FAR).status == 401  # nobody guessed
    assert ask(door, FAR, authorization=ALICE)[0].token.id == "alice"
    assert ask(door, "198.51.100.8", authorization=BOB)[0].token.id == "bob"
    monkeypatch.setattr(room, "_WINDOW_SECONDS", -1.0)  # a minute later
    assert ask(door, FAR, authorization=BOB)[0].token.id == "bob"


def test_an_operator_who_was_right_before_goes_on_while_others_guess():
    door, secret = lock(), "operator-token-0123456789"
    assert door.is_right(FAR, secret, secret)
    for _ in range(20):
        assert not door.is_right(FAR, "wrong", secret)
    assert not door.is_right(FAR, "", secret)  # nobody guessed
    with pytest.raises(GatewayError) as caught:
        door.is_right(FAR, "wrong", secret)
    assert (caught.value.status, caught.value.code) == (429, "too_many_failures")
    assert door.is_right(FAR, secret, secret)
    near = "198.51.100.8"
    for _ in range(20):
        assert not door.is_right(near, "wrong", secret)
    with pytest.raises(GatewayError):  # right, but never seen from there
        door.is_right(near, secret, secret)


def test_a_whole_ipv6_network_is_one_guesser():
    door = lock(ALICE)
    for number in range(20):
        refused(door, f"2001:db8::{number:x}", authorization="wrong")
    assert refused(door, "2001:db8::ffff", authorization="wrong").status == 429
    assert refused(door, "2001:db8:1::1", authorization="wrong").status == 401


def test_the_memory_of_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr(room, "_MAX_ADDRESSES", 10)
    door = lock(ALICE)
    for number in range(50):
        refused(door, f"198.51.100.{number}", authorization="wrong")
    assert len(door._visitors) == 10


def token(**more):
    return Caller(token=AccessToken(id="a", val=ALICE, **more))


@pytest.mark.parametrize(
    ("restricted", "provider", "model", "allowed"),
    [
        ({}, "openai-api", "gpt-4o", True),
        ({"providers": ["openai"]}, "openai-api", "gpt-4o", True),
        ({"providers": ["openai"]}, "openai-chat-web", "x", True),
        ({"providers": ["openai"]}, "claude-api", "x", False),
        ({"providers": ["bing"]}, "bing", "", True),
        ({"models": ["gpt-4o*"]}, "openai-api", "gpt-4o-mini", True),
        ({"models": ["gpt-4o*"]}, "openai-api", "gpt-5", False),
        ({"models": ["gpt-4o*"]}, "openai-api", "GPT-4o", False),
        ({"models": ["claude/*"]}, "claude-api", "claude-sonnet-4-5", True),
        ({"models": ["claude/*"]}, "openai-api", "claude-x", False),
        ({"models": ["gemini-*"]}, "gemini-api", "models/gemini-2.5-flash", True),
        ({"models": ["gpt-4o"]}, "openai-api", "", False),
        ({"models": ["*"]}, "openai-api", None, False),
        ({"providers": ["claude"], "models": ["*"]}, "openai-api", "x", False),
    ],
)
def test_a_token_may_be_for_some_providers_and_models_only(restricted, provider, model, allowed):
    caller = token(**restricted)
    assert caller.may(provider, model) is allowed
    if not allowed:
        with pytest.raises(GatewayError) as caught:
            caller.allow(provider, model)
        assert (caught.value.status, caught.value.code) == (403, "not_allowed")


def test_secrets_are_compared_whole():
    assert same("abc", "abc") and same("ä\udcff", "ä\udcff")
    assert not same("abc", "abd") and not same("abc", "ab")
