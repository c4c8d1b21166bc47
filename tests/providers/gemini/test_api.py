"""Where a call goes and with which key; native bodies; errors; models; forwards."""

import asyncio
import json
from typing import Any

import pytest

from app.config.schema import Config, GoogleGemini
from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.stream import ChatStream
from app.wire.errors import GatewayError
from app.wire.provider import Key
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.gemini.api import (
    FORWARDS,
    POOL,
    PROVIDER,
    image_urls,
    models_request,
    read_models,
)
from providers.gemini.errors import read_error
from providers.gemini.models import Model
from tests.calls import answering, asked_of
from tests.providers.gemini.calls import CALLERS, RECORDED, chunk, make_call, sse, user

POOLED = Key(POOL, "10001", "AIzaPooled", {"version": "v1"})


def asked(body: Any, **more: Any) -> UpstreamRequest:
    return PROVIDER.request(make_call(body, **more))


# Address and credential


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("tunedModels/mine-1", "tunedModels/mine-1"),
        (None, "models/gemini-2.5-flash"),
    ],
)
def test_a_model_is_named_in_the_url(model: str | None, path: str) -> None:
    base = "https://generativelanguage.googleapis.com/v1beta"
    assert asked(user() | {"model": model}).url == f"{base}/{path}:generateContent"
    streamed = asked(user(stream=True) | {"model": model})
    assert streamed.url == f"{base}/{path}:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    "model",
    [
        "../v1/models/x",
        "models/../x",
        "a/..",
        "x?alt=json",
        "x#y",
        "x:countTokens",
        "x%2f..",
        "a b",
        "/x",
        "x/",
        "é",
        "x\n",
        "x" * 300,
    ],
)
def test_a_model_that_would_change_the_url_is_refused(model: str) -> None:
    with pytest.raises(GatewayError) as caught:
        asked(user() | {"model": model})
    assert (caught.value.status, caught.value.param) == (400, "model")


def test_address_model_and_proxy_come_from_the_config() -> None:
    own = GoogleGemini(
        api_url="http://127.0.0.1:9/base/", model="gemini-3-flash", proxy_url="http://p"
    )
    request = asked(
        user() | {"model": None}, config=Config(google_gemini=own, proxy_url="http://q")
    )
    assert request.url == "http://127.0.0.1:9/base/v1beta/models/gemini-3-flash:generateContent"
    assert request.proxy == "http://p"
    assert asked(user(), config=Config(proxy_url="http://q")).proxy == "http://q"
    assert asked(user()).proxy is None


@pytest.mark.parametrize(
    ("key", "header", "version"),
    [
        (CALLERS, None, "v1beta"),
        (CALLERS, "", "v1beta"),
        (CALLERS, "v1", "v1"),
        (CALLERS, "v1alpha", "v1alpha"),
        (CALLERS, "v1beta3", "v1beta3"),
        (POOLED, None, "v1"),
        (POOLED, "v1alpha", "v1"),
        (Key(POOL, "2", "k", {"version": ""}), None, "v1beta"),
        (Key(POOL, "2", "k"), None, "v1beta"),
    ],
)
def test_the_version_is_the_callers_with_their_key_and_else_the_keys(
    key: Key, header: str | None, version: str
) -> None:
    headers = {} if header is None else {"x-version": header}
    assert f".com/{version}/models/" in asked(user(), key=key, headers=headers).url


@pytest.mark.parametrize("header", ["v2", "v1/../v1beta", "v1beta/x", "v1?x", "beta", "v1\nx"])
def test_a_version_that_would_change_the_path_is_refused(header: str) -> None:
    with pytest.raises(GatewayError) as caught:
        asked(user(), headers={"x-version": header})
    assert (caught.value.status, caught.value.param) == (400, "x-version")


def test_a_mistaken_version_in_the_config_is_told_by_key_id() -> None:
    with pytest.raises(GatewayError) as caught:
        asked(user(), key=Key(POOL, "10001", "k", {"version": "2"}))
    assert caught.value.status == 500
    assert "10001" in caught.value.message


@pytest.mark.parametrize("key", [CALLERS, POOLED])
def test_a_key_travels_in_its_header_and_never_in_the_url(key: Key) -> None:
    request = asked(user(), key=key)
    headers = dict(request.headers)
    assert headers["x-goog-api-key"] == key.val
    assert "authorization" not in headers
    assert key.val not in request.url
    assert key.val.encode() not in (request.body or b"")  # type: ignore[operator]


def test_an_oauth_token_travels_as_a_bearer() -> None:
    headers = dict(asked(user(), key=Key(POOL, "", "ya29.token")).headers)
    assert headers["authorization"] == "Bearer ya29.token"
    assert "x-goog-api-key" not in headers


def test_translating_the_same_call_twice_gives_the_same_bytes() -> None:
    call = make_call(
        user(metadata={"a": "b"}, tools=[{"type": "function", "function": {"name": "a b"}}])
    )
    assert PROVIDER.request(call) == PROVIDER.request(call)
    assert call.dropped == ["metadata"]


def test_the_chunks_say_which_key_answered_but_not_the_callers() -> None:
    assert PROVIDER.session(make_call(user(), key=POOLED)) == {
        "gemini": {"type": "api", "index": "10001"}
    }
    assert PROVIDER.session(make_call(user())) == {"gemini": {"type": "api"}}


@pytest.mark.parametrize(
    ("member", "index"),
    [
        ('{"index": "10001"}', "10001"),
        ('{"type": "api", "index": 10001}', "10001"),
        ('{"index": ""}', None),
        ('{"index": null}', None),
        ("{}", None),
        ("null", None),
    ],
)
def test_the_body_may_name_a_key(member: str, index: str | None) -> None:
    assert PROVIDER.index(asked_of(b'{"gemini": %b}' % member.encode())) == index


def test_a_key_named_by_what_is_no_id_is_refused_by_path() -> None:
    with pytest.raises(GatewayError) as caught:
        PROVIDER.index(asked_of(b'{"gemini": {"index": []}}'))
    assert (caught.value.status, caught.value.param) == (400, "gemini.index")


def test_a_key_named_in_no_unicode_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        PROVIDER.index(asked_of(b'{"gemini": {"index": "\xff"}}'))
    assert caught.value.status == 400


# Images that the gateway has to fetch


class Fetching:
    """The network as `prepare` sees it, with one picture in it."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    async def fetch(self, urls: list[str]) -> dict[str, tuple[str, bytes]]:
        self.fetched += urls
        return dict.fromkeys(urls, ("image/png", b"abc"))

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        raise AssertionError("nothing else is asked of the network")

    async def offload(self, function: Any, *args: Any) -> Any:
        raise AssertionError("nothing else is asked of the network")


def pictures(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "gemini-2.0-flash", "messages": [{"role": "user", "content": parts}]}


URLS = (
    "https://x.test/a",
    "https://x.test/a",
    "http://x.test/b",
    "data:image/png;base64,AAAA",
    "https://youtu.be/x",
    "gs://b/c",
)


def test_an_older_model_has_its_image_urls_fetched_once_each() -> None:
    network, call = Fetching(), make_call(pictures(*URLS))
    assert PROVIDER.prepare is not None
    prepared = asyncio.run(PROVIDER.prepare(call, network))  # type: ignore[arg-type]
    assert network.fetched == ["https://x.test/a", "http://x.test/b"]
    parts = json.loads(PROVIDER.request(prepared).body)["contents"][0]["parts"]  # type: ignore[arg-type]
    assert [next(iter(part)) for part in parts] == [
        "inlineData", "inlineData", "inlineData", "inlineData", "fileData", "fileData",
    ]  # fmt: skip


def test_a_current_model_fetches_image_urls_itself() -> None:
    network = Fetching()
    call = make_call(pictures(*URLS) | {"model": "gemini-2.5-flash"})
    assert PROVIDER.prepare is not None
    assert asyncio.run(PROVIDER.prepare(call, network)) is call  # type: ignore[arg-type]
    assert network.fetched == []


@pytest.mark.parametrize(
    ("model", "fetches"),
    [
        ("gemini-2.5-pro", True),
        ("gemini-3-flash-preview", True),
        ("gemini-flash-latest", True),
        ("models/gemini-10.1-x", True),
        ("gemini-2.0-flash", False),
        ("gemini-1.5-pro", False),
        ("gemini-pro-vision", False),
        ("gemma-3-27b-it", False),
        ("tunedModels/mine", False),
    ],
)
def test_models_before_2_5_take_no_urls(model: str, fetches: bool) -> None:
    chat = make_call(pictures("https://x.test/a")).chat
    assert image_urls(chat, Model(model, "v1beta")) == ([] if fetches else ["https://x.test/a"])


# Native bodies


def native(body: Any, **more: Any) -> Any:
    return json.loads(PROVIDER.native.request(make_call(body, native=True, **more)).body)  # type: ignore[arg-type]


CONTENTS = [{"role": "user", "parts": [{"text": "Hi"}]}]


def test_a_native_body_goes_on_as_it_came_without_our_members() -> None:
    raw = (
        b'{"model": "gemini-3-flash", "stream": true, "gemini": {"index": "1"}, "provider": "x",'
        b'"contents": [{"parts": [{"text": "\\u00e9"}]}], "generationConfig": {"seed": 1.0e3},'
        b'"stream_options": {"include_usage": true}, "newMember": {"a" : [1.50]}}'
    )
    request = PROVIDER.native.request(make_call(raw, native=True))
    assert request.body == (
        b'{"contents":[{"parts": [{"text": "\\u00e9"}]}],"generationConfig":{"seed": 1.0e3},'
        b'"newMember":{"a" : [1.50]}}'
    )
    assert request.url.endswith("/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse")


def test_a_native_body_without_stream_and_model_gets_the_defaults() -> None:
    request = PROVIDER.native.request(make_call({"contents": CONTENTS}, native=True))
    assert request.url.endswith("/v1beta/models/gemini-2.5-flash:generateContent")


@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"role": "user", "parts": [{"text": "a"}]}, None),
        ("a", [{"text": "a"}]),
        ([{"parts": [{"text": "a"}]}, {"parts": [{"text": "b"}]}], [{"text": "a"}, {"text": "b"}]),
        ([{"text": "a"}, "b"], [{"text": "a"}, {"text": "b"}]),
        ([], []),
    ],
)
def test_a_native_instruction_is_folded_into_one_content(name: str, given: Any, parts: Any) -> None:
    expected = given if parts is None else {"parts": parts}
    assert native({"contents": CONTENTS, name: given}) == {"contents": CONTENTS, name: expected}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": []}', "contents"),
        (b'{"contents": [], "systemInstruction": [1]}', "systemInstruction"),
        (b'{"contents": [], "systemInstruction": [{"parts": 1}]}', "systemInstruction"),
        (b"[1]", None),
        (b'{"contents": [}', None),
    ],
)
def test_a_native_body_that_is_none_is_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(GatewayError) as caught:
        PROVIDER.native.read(asked_of(body))
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_native_call_is_answered_with_the_same_events() -> None:
    decoder = PROVIDER.native.decoder(
        make_call({"contents": CONTENTS, "stream": True}, native=True)
    )
    kinds = [type(e).__name__ for e in decoder.feed(sse(chunk({"text": "a"}, finish="STOP")))]
    assert kinds == ["Started", "Text"]
    assert [type(e).__name__ for e in decoder.finish()] == ["Finish"]


# The older functions

LOOK_UP = {"name": "look up", "parameters": {"type": "object"}}
CALLED = {"functionCall": {"name": "look_up", "args": {"q": "x"}}}
TOLD = {"name": "look up", "arguments": '{"q":"x"}'}


def told(body: Any, *parts: Any, finish: str = "STOP") -> Any:
    """The answer's message and its finish_reason, or the deltas of a stream and the last one's."""
    call = make_call(body)
    decoder = PROVIDER.decoder(call)  # type: ignore[misc]
    if call.stream:
        chunks = ChatStream(answering(call), decoder)
        out = chunks.feed(sse(chunk(*parts, finish=finish))) + chunks.finish()
        lines = [json.loads(line[6:]) for line in out.split(b"\n\n") if line[:7] == b"data: {"]
        choices = [line["choices"][0] for line in lines]
        return [choice["delta"] for choice in choices], choices[-1]["finish_reason"]
    whole = Completion(answering(call), decoder)
    whole.feed(json.dumps(chunk(*parts, finish=finish)).encode())
    choice = json.loads(whole.finish())["choices"][0]
    return choice["message"], choice["finish_reason"]


def test_who_asks_with_functions_is_answered_with_a_function_call() -> None:
    message, reason = told(user(functions=[LOOK_UP], function_call="auto"), CALLED)
    assert (message["function_call"], reason) == (TOLD, "function_call")
    assert "tool_calls" not in message


def test_a_function_call_is_streamed_as_one() -> None:
    # Gemini calls in parallel whatever it is told; the older shape has room for one call.
    deltas, reason = told(user(functions=[LOOK_UP], stream=True), CALLED, CALLED)
    assert [delta["function_call"] for delta in deltas if "function_call" in delta] == [TOLD]
    assert reason == "function_call"
    assert not any("tool_calls" in delta for delta in deltas)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("parts", "finish", "word"),
    [([{"text": "a"}], "STOP", "stop"), ([CALLED], "MAX_TOKENS", "length")],
)
def test_an_answer_to_functions_without_a_whole_call_ends_as_ever(
    parts: Any, finish: str, word: str, stream: bool
) -> None:
    assert told(user(functions=[LOOK_UP], stream=stream), *parts, finish=finish)[1] == word


def test_who_asks_with_tools_is_answered_with_tool_calls() -> None:
    body = user(tools=[{"type": "function", "function": LOOK_UP}], functions=[LOOK_UP])
    message, reason = told(body, CALLED)
    assert (message["tool_calls"][0]["function"], reason) == (TOLD, "tool_calls")
    assert "function_call" not in message
    call = make_call(body)
    PROVIDER.request(call)
    assert call.dropped == ["functions"]


# Errors


def reply(status: int, body: Any, **headers: str) -> UpstreamReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return UpstreamReply(status, headers, raw)


def error(code: int, status: str, message: str = "m", details: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


@pytest.mark.parametrize(
    ("name", "status", "told", "code", "retry_after"),
    [
        ("error-400-api-key.json", 400, 401, "invalid_api_key", None),
        ("error-404-model.json", 404, 404, "model_not_found", None),
        ("error-429-quota.json", 429, 429, "rate_limit_exceeded", 48),
    ],
)
def test_a_recorded_error_alone_or_in_an_array(
    name: str, status: int, told: int, code: str, retry_after: float | None
) -> None:
    body = (RECORDED / name).read_bytes()
    for raw in (body, b"[" + body + b"]\n"):
        found = read_error(reply(status, raw))
        assert (found.status, found.code, found.retry_after) == (told, code, retry_after)
        assert found.message == json.loads(body)["error"]["message"]


def _info(reason: str, **metadata: str) -> Any:
    return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
             "domain": "googleapis.com", "metadata": metadata}]  # fmt: skip


def _quota(*ids: str, delay: Any = None) -> Any:
    details: list[Any] = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": quota} for quota in ids],
        }
    ]
    if delay is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return error(429, "RESOURCE_EXHAUSTED", details=details)


UNREGISTERED = "Method doesn't allow unregistered callers (callers without established identity)."
LOCATION = "User location is not supported for the API use."


@pytest.mark.parametrize(
    ("status", "body", "told", "code", "retry_after"),
    [
        (400, error(400, "INVALID_ARGUMENT"), 400, "invalid_argument", None),
        (400, error(400, "INVALID_ARGUMENT", "API key expired."), 401, "invalid_api_key", None),
        (
            400,
            error(400, "FAILED_PRECONDITION", LOCATION),
            403,
            "unsupported_country_region_territory",
            None,
        ),
        (400, error(400, "FAILED_PRECONDITION", "billing"), 403, "failed_precondition", None),
        (401, error(401, "UNAUTHENTICATED"), 401, "invalid_api_key", None),
        (403, error(403, "PERMISSION_DENIED"), 403, "permission_denied", None),
        (403, error(403, "PERMISSION_DENIED", UNREGISTERED), 401, "invalid_api_key", None),
        (404, error(404, "NOT_FOUND", "models/x is not found"), 404, "model_not_found", None),
        (404, error(404, "NOT_FOUND", "no such file"), 404, "not_found", None),
        (413, error(413, "INVALID_ARGUMENT"), 413, "request_too_large", None),
        (429, _quota("RequestsPerMinutePerProject", delay="34.4s"), 429, "rate_limit_exceeded", 35),
        (
            429,
            _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", delay="1s"),
            429,
            "rate_limit_exceeded",  # of this model; the key's others go on
            1,
        ),
        (
            429,
            _quota(
                "GenerateContentInputTokensPerModelPerMinute-FreeTier",
                "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
            ),
            429,
            "rate_limit_exceeded",
            None,
        ),
        (
            429,
            _quota("GenerateRequestsPerDayPerProject-FreeTier", delay="34.074824224s"),
            429,
            "insufficient_quota",
            35,
        ),
        (
            429,
            _quota("GenerateRequestsPerDayPerProjectPerModel", "GenerateRequestsPerDayPerProject"),
            429,
            "insufficient_quota",
            None,
        ),
        (
            429,
            error(
                429,
                "RESOURCE_EXHAUSTED",
                details=_info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDayPerProject"),
            ),
            429,
            "insufficient_quota",
            None,
        ),
        (
            429,
            error(
                429,
                "RESOURCE_EXHAUSTED",
                details=_info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerMinutePerProject"),
            ),
            429,
            "rate_limit_exceeded",
            None,
        ),
        (
            429,
            error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go"),
            429,
            "insufficient_quota",
            None,
        ),
        (
            429,
            error(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its spending cap."),
            429,
            "insufficient_quota",
            None,
        ),
        (429, _quota(delay={"seconds": 21}), 429, "rate_limit_exceeded", None),
        (
            429,
            error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.\nPlease retry in 20.04466179s."),
            429,
            "rate_limit_exceeded",
            21,
        ),
        (
            429,
            error(429, "RESOURCE_EXHAUSTED", "Please retry in 250.5ms."),
            429,
            "rate_limit_exceeded",
            1,
        ),
        (429, {"error": {"code": "429", "message": "x"}}, 429, "rate_limit_exceeded", None),
        (429, _quota(delay="0s"), 429, "rate_limit_exceeded", None),
        (
            429,
            error(429, "RESOURCE_EXHAUSTED", details=["x", {"violations": "x", "reason": 1}]),
            429,
            "rate_limit_exceeded",
            None,
        ),
        (
            400,
            error(400, "INVALID_ARGUMENT", "API Key not found.", _info("API_KEY_INVALID")),
            401,
            "invalid_api_key",
            None,
        ),
        (
            400,
            error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
            401,
            "invalid_api_key",
            None,
        ),
        (
            400,
            error(400, "INVALID_ARGUMENT", "Invalid role: API key not valid."),
            400,
            "invalid_argument",
            None,
        ),
        (
            403,
            error(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use"),
            401,
            "invalid_api_key",
            None,
        ),
        (
            403,
            error(403, "PERMISSION_DENIED", details=_info("CONSUMER_SUSPENDED")),
            401,
            "invalid_api_key",
            None,
        ),
        (
            403,
            error(403, "PERMISSION_DENIED", details=_info("BILLING_DISABLED")),
            403,
            "insufficient_quota",
            None,
        ),
        (
            403,
            error(403, "PERMISSION_DENIED", details=_info("API_KEY_SERVICE_BLOCKED")),
            403,
            "permission_denied",
            None,
        ),
        (429, _quota(delay="soon"), 429, "rate_limit_exceeded", None),
        (429, error(429, "RESOURCE_EXHAUSTED"), 429, "rate_limit_exceeded", None),
        (499, error(499, "CANCELLED"), 502, "cancelled", None),
        (500, error(500, "INTERNAL"), 500, "internal", None),
        (503, error(503, "UNAVAILABLE"), 503, "unavailable", None),
        (504, error(504, "DEADLINE_EXCEEDED"), 504, "deadline_exceeded", None),
        (520, error(520, ""), 502, "upstream_bad_response", None),
        (418, error(418, "TEAPOT"), 418, "teapot", None),
    ],
)
def test_each_refusal_has_its_status_and_code(
    status: int, body: Any, told: int, code: str, retry_after: float | None
) -> None:
    found = read_error(reply(status, body))
    assert (found.status, found.code, found.retry_after) == (told, code, retry_after)


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (400, 400, "upstream_refused"),
        (404, 404, "not_found"),
        (502, 502, "upstream_refused"),
        (503, 503, "upstream_refused"),
        (302, 502, "upstream_refused"),
        (429, 429, "upstream_refused"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><title>Error</title>",
        b"",
        b"[]",
        b"{",
        b'{"error": "x"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_a_refusal_without_json_keeps_what_its_status_says(
    body: bytes, status: int, told: int, code: str
) -> None:
    found = read_error(reply(status, body, **{"retry-after": "7"}))
    assert (found.status, found.code, found.retry_after) == (told, code, 7)
    assert "html" not in found.message.lower()


def test_a_key_that_google_quotes_is_not_passed_on() -> None:
    key = "AIza" + "SyA0123456789_abcdefghij-klmnopqrstu"
    text = f"Permission denied: Consumer 'api_key:{key}' has been suspended. See ?key={key}&x=1"
    found = read_error(reply(403, error(403, "PERMISSION_DENIED", text)))
    assert key not in found.message
    assert "has been suspended" in found.message


# Models


def test_models_are_asked_for_in_one_page() -> None:
    request = models_request(Config(), POOLED)
    assert request.method == "GET"
    assert request.url == ("https://generativelanguage.googleapis.com/v1/models?pageSize=1000")
    assert ("x-goog-api-key", "AIzaPooled") in request.headers


def test_the_recorded_list_gives_the_models_that_can_chat() -> None:
    models = read_models(reply(200, (RECORDED / "models-list.json").read_bytes()))
    assert models[0] == {
        "id": "gemini-2.5-flash",
        "object": "model",
        "created": 0,
        "owned_by": "google",
    }
    ids = {model["id"] for model in models}
    assert "gemini-3-pro-preview" in ids
    assert not any(word in name for name in ids for word in ("veo", "imagen", "embedding"))


@pytest.mark.parametrize("status", [200, 403])
def test_a_list_that_is_none_is_an_error(status: int) -> None:
    with pytest.raises(GatewayError):
        read_models(reply(status, b"<html>"))


# Forwards


def rule_for(path: str) -> Any:
    return next(rule for rule in FORWARDS if path.startswith(rule.prefix))


@pytest.mark.parametrize(
    ("path", "upstream", "header"),
    [
        (
            "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            ("x-goog-api-key", "AIzaPooled"),
        ),
        ("/gemini/upload/v1beta/files", "/upload/v1beta/files", ("x-goog-api-key", "AIzaPooled")),
        (
            "/gemini/v1beta/openai/chat/completions",
            "/v1beta/openai/chat/completions",
            ("authorization", "Bearer AIzaPooled"),
        ),
    ],
)
def test_a_forward_keeps_its_path_and_puts_the_key_where_it_is_taken(
    path: str, upstream: str, header: tuple[str, str]
) -> None:
    rule = rule_for(path)
    assert rule.upstream_prefix + path[len(rule.prefix) :] == upstream
    assert rule.credential(POOLED, {}, Config()) == [header]
    assert rule.base(Config()) == "https://generativelanguage.googleapis.com"
    assert "key" in rule.credential_query
    assert {"x-goog-api-key", "authorization"} <= set(rule.credential_headers)
