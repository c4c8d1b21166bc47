"""Authentication: every place a token may stand in, and requests without one."""

import time
from hashlib import sha256

import pytest
from sanic.compat import Header

from app.auth.authenticate import Access, KnownToken, equal_secrets
from app.config.schema import Access as Settings
from app.config.schema import AccessToken, Config
from app.wire.errors import GatewayError

ALICE, BOB = "alice-0123456789-token", "bob-9876543210-token"
LOCAL, FAR = "127.0.0.1", "198.51.100.7"


def access(*tokens, protected=True, proxies=()):
    listed = [AccessToken(id=val.partition("-")[0], val=val) for val in tokens]
    return Access(
        Config(access=Settings(tokens=listed, protected=protected), trusted_proxies=list(proxies))
    )


def authenticate(gate, address=FAR, path="/v1/x", query="", **headers):
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
    caller, query = gate.authenticate(gate.peer(address), path, query, set(held), held, head)
    return caller, held, query


def refused(gate, *args, **kwargs):
    with pytest.raises(GatewayError) as caught:
        authenticate(gate, *args, **kwargs)
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
    caller, left, _ = authenticate(access(ALICE, BOB), **headers)
    assert caller.token.id == "alice" and caller.may_use_keys
    assert not any(ALICE in value for value in left.values())


def test_the_query_key_counts_on_gemini_and_travels_nowhere():
    gate = access(ALICE)
    for written in (ALICE, ALICE.replace("-", "%2D")):
        caller, _, query = authenticate(
            gate, path="/gemini/v1beta/models", query=f"a=1&key={written}&b=2"
        )
        assert caller.token.id == "alice" and query == "a=1&b=2"
    assert refused(gate, path="/v1/x", query=f"key={ALICE}").status == 401


def test_beside_our_own_header_the_callers_credential_stays():
    caller, left, _ = authenticate(
        access(ALICE), authorization="Bearer sk-own", x_access_token=ALICE
    )
    assert caller.token.id == "alice"
    assert left["authorization"] == "Bearer sk-own" and "x-access-token" not in left


def test_of_two_tokens_the_one_in_our_own_header_counts_and_both_go():
    caller, left, _ = authenticate(access(ALICE, BOB), authorization=ALICE, x_access_token=BOB)
    assert caller.token.id == "bob" and list(left) == ["host"]


def test_a_token_said_twice_goes_twice():
    _, left, _ = authenticate(access(ALICE), authorization=[f"Bearer {ALICE}", "Bearer sk-own"])
    assert left.getall("authorization") == ["Bearer sk-own"]


def test_a_token_where_nobody_asked_for_it_is_taken_off_as_well():
    gate = access(ALICE)
    _, left, query = authenticate(
        gate, authorization=ALICE, cookie=f"a={ALICE}; b", x_note="fine", query=f"a=b&t={ALICE}"
    )
    assert sorted(left) == ["host", "x-note"] and query == "a=b"
    assert refused(gate, path=f"/v1/{ALICE}", authorization=ALICE).status == 400


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
        error = refused(access(ALICE), address, **headers)
        assert (error.status, error.code) == (401, "access_denied")
        assert "x-access-token" in error.message


def test_without_tokens_only_this_machine_may_use_the_keys():
    gate = access()
    for address in (LOCAL, "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        caller, _, _ = authenticate(gate, address)
        assert caller.may_use_keys and caller.is_local and caller.is_sole
    for address in (FAR, "10.0.0.1", "", "fe80::1", "::ffff:10.0.0.1"):
        caller, _, _ = authenticate(gate, address)
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
    assert not authenticate(access(), LOCAL, **{name: "127.0.0.1"})[0].may_use_keys
    trusting = access(proxies=["127.0.0.0/8"])
    assert not authenticate(trusting, LOCAL, **{name: "127.0.0.1"})[0].may_use_keys


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
    assert authenticate(access(), LOCAL, **headers)[0].may_use_keys is is_local


def test_without_protection_everybody_may_use_the_keys():
    assert authenticate(access(protected=False), FAR)[0].may_use_keys
    assert (
        refused(access(ALICE, protected=False), FAR).status == 401
    )  # tokens are required all the same


@pytest.mark.parametrize("path", ["/ping", "/healthz", "/readyz", "/ping/", "/metrics", "/admin/x"])
def test_public_paths_and_those_with_their_own_authentication_need_no_token(path):
    assert authenticate(access(ALICE), FAR, path)[0].token is None


@pytest.mark.parametrize("path", ["/pingx", "/ping/x", "/v1/ping", "/adminx", "/%61dmin", "//ping"])
def test_paths_that_only_resemble_them_need_a_token(path):
    assert refused(access(ALICE), FAR, path).status == 401


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
    gate = access(ALICE, proxies=["10.0.0.0/8"])
    caller, _, _ = authenticate(gate, peer, authorization=ALICE, x_forwarded_for=forwarded)
    assert caller.address == address


def test_failures_are_limited_by_address_and_verified_tokens_are_exempt(monkeypatch):
    gate = access(ALICE, BOB)
    authenticate(gate, FAR, authorization=ALICE)
    for _ in range(20):
        assert refused(gate, FAR, authorization="Bearer wrong").status == 401
    error = refused(gate, FAR, authorization="Bearer wrong")
    assert (error.status, error.code) == (429, "too_many_failures")
    assert 0 < error.retry_after <= 60
    assert refused(gate, FAR, authorization=BOB).status == 429  # right, but never seen from here
    assert refused(gate, FAR).status == 401  # nobody guessed
    assert authenticate(gate, FAR, authorization=ALICE)[0].token.id == "alice"
    assert authenticate(gate, "198.51.100.8", authorization=BOB)[0].token.id == "bob"
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert authenticate(gate, FAR, authorization=BOB)[0].token.id == "bob"


def test_an_operator_who_was_right_before_goes_on_while_others_guess():
    gate, secret = access(), "operator-token-0123456789"
    assert gate.verify(FAR, secret, secret)
    for _ in range(20):
        assert not gate.verify(FAR, "wrong", secret)
    assert not gate.verify(FAR, "", secret)  # nobody guessed
    with pytest.raises(GatewayError) as caught:
        gate.verify(FAR, "wrong", secret)
    assert (caught.value.status, caught.value.code) == (429, "too_many_failures")
    assert gate.verify(FAR, secret, secret)
    near = "198.51.100.8"
    for _ in range(20):
        assert not gate.verify(near, "wrong", secret)
    with pytest.raises(GatewayError):  # right, but never seen from there
        gate.verify(near, secret, secret)


def test_a_whole_ipv6_network_is_one_guesser():
    gate = access(ALICE)
    for number in range(20):
        refused(gate, f"2001:db8::{number:x}", authorization="wrong")
    assert refused(gate, "2001:db8::ffff", authorization="wrong").status == 429
    assert refused(gate, "2001:db8:1::1", authorization="wrong").status == 401


def test_of_ten_thousand_addresses_with_wrong_tokens_the_first_is_forgotten():
    gate = access(ALICE)
    for _ in range(20):
        gate.verify(FAR, "wrong", ALICE)
    for number in range(9_999):
        gate.verify(f"10.0.{number // 256}.{number % 256}", "wrong", ALICE)
    assert refused(gate, FAR, authorization="wrong").status == 429
    gate.verify("10.1.0.0", "wrong", ALICE)
    assert refused(gate, FAR, authorization="wrong").status == 401


def test_secrets_are_compared_whole():
    assert equal_secrets("abc", "abc") and equal_secrets("ä\udcff", "ä\udcff")
    assert not equal_secrets("abc", "abd") and not equal_secrets("abc", "ab")


ADDED = "anyproxy-" + "b" * 43


def with_added(gate, is_enabled=True, expires=float("inf"), val=ADDED):
    digest = sha256(val.encode()).hexdigest()
    token = AccessToken(id="added", val=f"sha256:{digest}")
    gate.set_stored([(digest, KnownToken(token, is_enabled, expires))])
    return gate


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ADDED}"},
        {"x_access_token": ADDED, "authorization": "Bearer sk-the-callers-own"},
        {"x_api_key": ADDED, "x_note": f"my token is {ADDED}"},
        {"sec_websocket_protocol": f"realtime, openai-insecure-api-key.{ADDED}"},
    ],
)
def test_an_added_token_counts_as_one_of_the_config_and_is_taken_off(headers):
    for gate in (access(), access(ALICE)):
        caller, left, _ = authenticate(with_added(gate), **headers)
        assert caller.token.id == "added" and caller.name == "token added"
        assert not any(ADDED in value for value in left.values())
    caller, _, query = authenticate(
        with_added(access()), path="/gemini/x", query=f"key={ADDED}&a=1"
    )
    assert caller.token.id == "added" and query == "a=1"


def test_with_an_added_token_everybody_needs_one():
    gate = access(protected=False)
    assert authenticate(gate)[0].may_use_keys
    with_added(gate)
    assert refused(gate).status == refused(gate, LOCAL).status == 401
    gate.set_stored([])
    assert authenticate(gate)[0].may_use_keys


def test_the_hash_of_an_added_token_is_no_token():
    gate = with_added(access(ALICE))
    digest = sha256(ADDED.encode()).hexdigest()
    for wrong in (digest, f"sha256:{digest}"):
        assert refused(gate, authorization=f"Bearer {wrong}").code == "access_denied"


@pytest.mark.parametrize(
    "more, code", [({"is_enabled": False}, "token_disabled"), ({"expires": 1.0}, "token_expired")]
)
def test_a_token_that_has_ended_is_told_so_and_is_no_guess(more, code):
    gate = with_added(access(ALICE), **more)
    for _ in range(25):
        error = refused(gate, authorization=f"Bearer {ADDED}")
        assert (error.status, error.code) == (401, code) and ADDED not in error.message


def test_a_token_that_expires_says_when():
    end = time.time() + 60
    gate = with_added(access(), expires=end)
    assert authenticate(gate, authorization=f"Bearer {ADDED}")[0].until == end


def test_until_added_tokens_are_known_an_unknown_one_may_be_right():
    gate = access(ALICE, protected=False)
    gate.is_complete = False
    error = refused(gate, authorization=f"Bearer {ADDED}")
    assert (error.status, error.code) == (503, "tokens_unavailable") and error.retry_after
    assert authenticate(gate, authorization=f"Bearer {ALICE}")[0].token.id == "alice"
    alone = access(protected=False)
    alone.is_complete = False
    assert not authenticate(alone)[0].may_use_keys, "there may be tokens: nobody is let in unasked"
    for _ in range(20):
        refused(gate, authorization="Bearer a-wrong-guess-01234")
    assert refused(gate, authorization="Bearer a-wrong-guess-01234").status == 429
