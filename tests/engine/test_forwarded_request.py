"""What of a caller's request reaches the upstream, and with which key."""

import asyncio

import pytest

from app.config.schema import Claude, Config, GeminiKeyEntry, GoogleGemini, KeyEntry, OpenAI
from app.engine.forward_call import ForwardCall
from app.engine.forwarded_request import safe_path
from app.engine.reverse_proxy import ReverseProxy
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from tests.calls import DIRECTORY
from tests.engine.fakes import FakeClients, FakeResponse, ListLog
from tests.engine.test_reverse_proxy import ForwardSink

RULE = next(rule for rule in DIRECTORY.forwards if rule.prefix == "/v1/")


CONFIG = Config(
    openai=OpenAI(api_url="https://up.example/base/", api_keys=[KeyEntry(id="1", val="sk-pool")])
)


def sent(config, rule, headers=(), path="models", query="", method="GET"):
    """The request as it goes out, and the id of the key it goes with."""
    clients = FakeClients(lambda request: FakeResponse(200, [("content-type", "text/plain")]))
    call = ForwardCall(
        rule=rule,
        method=method,
        path=path,
        query=query,
        headers=list(headers),
        body=None,
        length=None,
        public="http://gw",
        record=CallRecord(request_id="r", route="t"),
    )
    proxy = ReverseProxy(config, clients, KeyPool(config, SharedState()), ListLog())
    asyncio.run(proxy.run(call, ForwardSink()))
    return clients.requests[0], call.record.key_id


def outgoing(headers=(), **more):
    return sent(CONFIG, RULE, headers, **more)


@pytest.mark.parametrize(
    "path",
    [
        "models",
        "files/file-abc.def",
        "a/b//c",
        "models/gpt-4:free",
        "x/..hidden",
        "x/...",
        "a%20b",
        "m%C3%BCnchen",
        "100%25",
        "",
    ],
)
def test_ordinary_paths_pass_as_they_came(path):
    assert safe_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "../dashboard",
        "a/../../x",
        "..",
        "a/..",
        "./a",
        "%2e%2e/x",
        "%2E./x",
        "a/%2e%2e%2fx",
        "..%2fx",
        "..%5cx",
        "a\\..\\x",
        "a\\b",
        "%252e%252e/x",
        "%25252e%25252e%25252fx",
        "..;/x",
        "..;a=b/x",
        "%c0%ae%c0%ae/x",
        "a%00b",
        "a%0d%0aHost: evil",
        "a b",
        "a\tb",
        "a#b",
        "münchen",
        "%25" * 1 + "25" * 12 + "2e%2e/x",
    ],
)
def test_paths_that_climb_or_confuse_are_refused(path):
    with pytest.raises(GatewayError) as caught:
        safe_path(path)
    assert (caught.value.status, caught.value.code) == (400, "bad_path")


def test_the_host_and_prefix_are_the_configs_whatever_the_path_says():
    request, _ = outgoing(path="/evil.example/x", query="a=1&b=%2F")
    assert request.url == "https://up.example/base/v1//evil.example/x?a=1&b=%2F"
    request, _ = outgoing(path="@evil.example")
    assert request.url.startswith("https://up.example/base/v1/")


def test_a_pool_key_replaces_a_placeholder():
    request, key = outgoing([("Authorization", "Bearer pool")])
    assert [v for n, v in request.headers if n.lower() == "authorization"] == ["Bearer sk-pool"]
    assert key == "1"


def test_the_callers_own_key_travels_as_it_is():
    request, key = outgoing([("authorization", "bearer  sk-mine"), ("x-auth-id", "1")])
    assert request.headers == [("authorization", "bearer  sk-mine")]
    assert key == ""


def test_an_unknown_id_is_refused():
    with pytest.raises(GatewayError) as caught:
        outgoing([("x-auth-id", "5")])
    assert caught.value.code == "unknown_auth_id"


def test_who_the_caller_is_stays_here():
    private = [
        ("Cookie", "a=b"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-Real-IP", "1.2.3.4"),
        ("Via", "1.1 x"),
        ("x-auth-id", "1"),
        ("Host", "gw"),
        ("Origin", "http://page"),
        ("Referer", "http://page/x"),
        ("Content-Length", "3"),
        ("Expect", "100-continue"),
    ]
    request, _ = outgoing(private)
    assert request.headers == [("Authorization", "Bearer sk-pool")]


@pytest.mark.parametrize(
    ("prefix", "foreign"),
    [
        ("/v1/", "x-api-key"),
        ("/v1/", "x-goog-api-key"),
        ("/backend-api/", "x-api-key"),
        ("/backend-api/", "x-goog-api-key"),
        ("/claude/api/", "X-Goog-Api-Key"),
        ("/gemini/", "x-api-key"),
    ],
)
@pytest.mark.parametrize("own", [[], [("Authorization", "Bearer own")]])
def test_a_key_where_another_house_looks_for_it_stays_here(prefix, foreign, own):
    rule = next(rule for rule in DIRECTORY.forwards if rule.prefix == prefix)
    config = Config(
        openai=OpenAI(
            api_keys=[KeyEntry(id="1", val="sk-pool")],
            web_sessions=[KeyEntry(id="1", val="web-pool")],
        ),
        claude=Claude(api_keys=[KeyEntry(id="1", val="pool-key")]),
        google_gemini=GoogleGemini(api_keys=[GeminiKeyEntry(id="1", val="pool-key")]),
    )
    request, _ = sent(config, rule, [(foreign, "foreign-key"), *own])
    assert "foreign-key" not in dict(request.headers).values()


def test_hop_by_hop_headers_and_what_connection_names_stay_here():
    headers = [
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Keep-Alive", "5"),
        ("Proxy-Authorization", "Basic x"),
        ("Upgrade", "h2c"),
    ]
    request, _ = outgoing(headers)
    assert request.headers == [("Authorization", "Bearer sk-pool")]


def test_everything_else_travels_in_order_and_repetition():
    headers = [
        ("OpenAI-Beta", "a"),
        ("openai-beta", "b"),
        ("Accept-Encoding", "br"),
        ("Range", "bytes=0-9"),
        ("If-None-Match", '"x"'),
        ("X-Stainless-Lang", "python"),
    ]
    request, _ = outgoing(headers)
    assert request.headers[:-1] == headers


WEBSOCKET = [("Upgrade", "websocket"), ("Connection", "keep-alive, Upgrade")]


@pytest.mark.parametrize(
    ("headers", "path", "method"),
    [
        ([("Upgrade", "websocket")], "realtime", "GET"),
        ([("Upgrade", "websocket"), ("Connection", "keep-alive")], "realtime", "GET"),
        (WEBSOCKET, "realtime", "POST"),
        (WEBSOCKET, "models", "GET"),
        (WEBSOCKET, "chat/completions", "POST"),
        (WEBSOCKET, "realtime/sessions", "POST"),
        (
            [
                ("Connection", "Upgrade, HTTP2-Settings"),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
            ],
            "realtime",
            "GET",
        ),
        ([("Connection", "Upgrade"), ("Upgrade", "TLS/1.2, HTTP/2.0")], "models", "GET"),
    ],
)
def test_an_upgrade_that_is_no_websocket_is_ignored_and_stays_here(headers, path, method):
    request, _ = outgoing(headers, path=path, method=method)
    names = {name.lower() for name, _ in request.headers}
    assert not names & {"upgrade", "connection", "http2-settings"}
    assert (request.method, request.url) == (method, f"https://up.example/base/v1/{path}")


def claude_and_gemini(headers, prefix, path="v1/x", query=""):
    keys = [KeyEntry(id="1", val="pool-key")]
    config = Config(
        claude=Claude(api_url="https://up.example/base/", api_keys=keys),
        google_gemini=GoogleGemini(
            api_url="https://up.example", api_keys=[GeminiKeyEntry(id="1", val="pool-key")]
        ),
    )
    rule = next(rule for rule in DIRECTORY.forwards if rule.prefix == prefix)
    return sent(config, rule, headers, path, query)


@pytest.mark.parametrize(
    ("prefix", "given", "sent"),
    [
        ("/gemini/", [("Authorization", "Bearer AIza-own")], [("x-goog-api-key", "AIza-own")]),
        (
            "/gemini/",
            [("Authorization", "Bearer ya29.own")],
            [("Authorization", "Bearer ya29.own")],
        ),
        ("/gemini/", [("x-goog-api-key", "AIza-own")], [("x-goog-api-key", "AIza-own")]),
        ("/gemini/", [("Authorization", "Bearer pool")], [("x-goog-api-key", "pool-key")]),
        ("/gemini/", [("x-goog-api-key", "none")], [("x-goog-api-key", "pool-key")]),
        (
            "/gemini/",
            [("x-goog-api-key", "EMPTY"), ("Authorization", "Bearer ya29.own")],
            [("Authorization", "Bearer ya29.own")],
        ),
        (
            "/gemini/v1beta/openai/",
            [("Authorization", "Bearer AIza-own")],
            [("Authorization", "Bearer AIza-own")],
        ),
        (
            "/claude/api/",
            [("x-api-key", "pool"), ("Authorization", "Bearer own")],
            [("Authorization", "Bearer own"), ("anthropic-version", "2023-06-01")],
        ),
    ],
)
def test_a_callers_key_ends_where_the_upstream_looks_for_it(prefix, given, sent):
    request, _ = claude_and_gemini(given, prefix)
    assert request.headers == sent


@pytest.mark.parametrize("value", ["pool", "none", "EMPTY", ""])
def test_a_placeholder_in_the_query_means_the_pool_and_does_not_travel(value):
    request, key = claude_and_gemini([], "/gemini/", query=f"key={value}&alt=sse")
    assert request.url.endswith("/v1/x?alt=sse") and key == "1"


@pytest.mark.parametrize(
    ("path", "is_rewritten"),
    [
        ("v1/messages/batches", True),
        ("v1/messages/batches/msgbatch_1", True),
        ("v1/messages/batches/msgbatch_1/cancel", True),
        ("v1/messages/batches/msgbatch_1/results", False),
        ("v1/messages", False),
        ("v1/files/file_1/content", False),
    ],
)
def test_only_batch_objects_are_rewritten_and_asked_for_in_plain(path, is_rewritten):
    rule = next(rule for rule in DIRECTORY.forwards if rule.prefix == "/claude/api/")
    rewrite = rule.rewrite(path, "https://gw/claude/api/")
    assert (rewrite is not None) == is_rewritten
    headers = dict(claude_and_gemini([("Accept-Encoding", "br")], "/claude/api/", path)[0].headers)
    assert headers["Accept-Encoding"] == ("identity" if is_rewritten else "br")
    if is_rewritten:
        # Whatever the upstream calls itself: it may stand behind an address of its own.
        body = (
            b'{"id":"x","results_url": "https://api.anthropic.com/v1/messages/batches/a/results"}'
        )
        assert rewrite(body) == (
            b'{"id":"x","results_url": "https://gw/claude/api/v1/messages/batches/a/results"}'
        )
        assert rewrite(b'{"results_url":null}') == b'{"results_url":null}'
