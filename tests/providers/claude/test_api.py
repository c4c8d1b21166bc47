"""Headers, keys, the native body, the retry, errors, models and forwards of Anthropic's API."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from app.config.schema import Claude, Config
from app.engine.call import Target, credential_headers
from app.pool.outcomes import Outcome, of_error
from app.wire.errors import GatewayError
from app.wire.provider import Key
from app.wire.upstream import UpstreamReply
from providers.claude.api import FORWARDS, POOL, PROVIDER, is_claude_api
from tests.calls import CHAT, CLAUDE_DOOR, asked_of

RECORDED = Path(__file__).parents[2] / "recorded" / "claude"
BODY = {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "Hi"}]}
OAUTH = Key(POOL, "2", "sk-ant-oat01-x")


class TestHeaders:
    def test_a_pool_key(self, make_call):
        request = PROVIDER.request(make_call(BODY))
        assert (request.method, request.url) == ("POST", "https://api.anthropic.com/v1/messages")
        assert request.headers == [
            ("content-type", "application/json"),
            ("x-api-key", "sk-ant-api03-secret"),
            ("anthropic-version", "2023-06-01"),
        ]
        assert (request.via, request.proxy) == ("api", None)

    def test_an_oauth_token_is_a_bearer_with_its_beta(self, make_call):
        headers = dict(PROVIDER.request(make_call(BODY, key=OAUTH)).headers)
        assert headers["authorization"] == "Bearer sk-ant-oat01-x"
        assert headers["anthropic-beta"] == "oauth-2025-04-20"
        assert "x-api-key" not in headers

    def test_the_callers_version_and_betas_pass(self, make_call):
        said = {"anthropic-version": "2099-01-01", "anthropic-beta": "a-1,b-2"}
        headers = dict(PROVIDER.request(make_call(BODY, headers=said, key=OAUTH)).headers)
        assert headers["anthropic-version"] == "2099-01-01"
        assert headers["anthropic-beta"] == "a-1,b-2,oauth-2025-04-20"

    def test_the_config_says_address_version_and_proxy(self, make_call):
        claude = Claude(
            api_url="http://127.0.0.1:9/base/", api_version="2024-01-01", proxy_url="http://p:1"
        )
        request = PROVIDER.request(make_call(BODY, claude=claude, proxy_url="http://q:2"))
        assert request.url == "http://127.0.0.1:9/base/v1/messages"
        assert dict(request.headers)["anthropic-version"] == "2024-01-01"
        assert request.proxy == "http://p:1"
        assert PROVIDER.request(make_call(BODY, proxy_url="http://q:2")).proxy == "http://q:2"

    def test_the_body_streams_when_the_call_does(self, make_call):
        assert b'"stream":true' in PROVIDER.request(make_call(BODY | {"stream": True})).body
        assert b"stream" not in PROVIDER.request(make_call(BODY)).body


class TestNative:
    def test_a_body_without_gateway_members_goes_up_byte_for_byte(self, make_call):
        body = (
            b'{ "model":"m", "top_k": 5.0,"system":[{"type":"text","text":"\\u00e9"}],"new":[1] }'
        )
        assert PROVIDER.native.request(make_call(body, native=True)).body == body

    def test_gateway_members_go_and_the_values_of_the_rest_are_untouched(self, make_call):
        body = (
            b'{"provider":"claude","model":"m","top_k":5.0,"claude":{"index":"7"},'
            b'"thinking":{"type":"enabled", "budget_tokens":2000},"max_tokens":1e4,"stream":true}'
        )
        request = PROVIDER.native.request(make_call(body, native=True))
        assert request.body == (
            b'{"model":"m","top_k":5.0,"thinking":{"type":"enabled", "budget_tokens":2000},'
            b'"max_tokens":1e4,"stream":true}'
        )

    def test_a_model_without_its_prefix_replaces_the_one_in_the_body(self, make_call):
        body = {"model": "claude/claude-x", "max_tokens": 5}
        request = PROVIDER.native.request(make_call(body, native=True, model="claude-x"))
        assert request.body == b'{"model": "claude-x", "max_tokens": 5}'

    def test_it_takes_the_callers_key_from_either_header(self):
        named = Target(PROVIDER, "m", "m")
        assert credential_headers(CLAUDE_DOOR, named) == ("authorization", "x-api-key")
        assert credential_headers(CHAT, named) == ("authorization",)
        assert credential_headers(CHAT, replace(named, is_named=False)) == ()


class TestRetry:
    def refusal(self, message: str, status: int = 400) -> UpstreamReply:
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        return UpstreamReply(status, {}, msgspec.json.encode(error))

    @pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
    def test_a_refused_sampling_parameter_takes_all_of_them_away(self, make_call, name):
        call = make_call(BODY | {"temperature": 0.5, "top_k": 4, "stream": True})
        first = PROVIDER.request(call)
        again = PROVIDER.retry(call, self.refusal(f"`{name}` is deprecated for this model."))
        assert again is not None
        sent = msgspec.json.decode(first.body)
        del sent["temperature"], sent["top_k"]
        assert msgspec.json.decode(again.body) == sent
        assert again.headers == first.headers
        assert call.dropped == ["temperature", "top_k"]

    @pytest.mark.parametrize("where", ["signature` in `thinking", "data` in `redacted_thinking"])
    def test_refused_thoughts_and_thinking_itself_are_left_out(self, make_call, where):
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        blocks = [
            {"type": "thinking", "thinking": "hm", "signature": "of another account"},
            {"type": "redacted_thinking", "data": "x"},
        ]
        talk = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "tool_calls": [call], "thinking_blocks": blocks},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        ]
        call = make_call(BODY | {"messages": talk, "reasoning_effort": "high"})
        first = msgspec.json.decode(PROVIDER.request(call).body)
        assert first["thinking"] and len(first["messages"][1]["content"]) == 3
        again = PROVIDER.retry(call, self.refusal(f"messages.1.content.0: Invalid `{where}` block"))
        assert again is not None
        sent = msgspec.json.decode(again.body)
        assert "thinking" not in sent and "output_config" not in sent
        assert [block["type"] for block in sent["messages"][1]["content"]] == ["tool_use"]
        assert call.dropped == ["thinking_blocks"]

    def test_a_refused_signature_without_thoughts_stands(self, make_call):
        message = "messages.1.content.0: Invalid `signature` in `thinking` block"
        assert PROVIDER.retry(make_call(BODY), self.refusal(message)) is None

    @pytest.mark.parametrize("effort", [{}, {"reasoning_effort": "xhigh"}])
    def test_more_tokens_than_the_model_has_become_its_limit_from_then_on(self, make_call, effort):
        asked = BODY | {"model": "claude-sonnet-4-5-small", "max_tokens": 100_000} | effort
        call = make_call(asked)
        assert msgspec.json.decode(PROVIDER.request(call).body)["max_tokens"] >= 20_000
        message = (
            "max_tokens: 100000 > 20000, which is the maximum allowed number of output tokens for "
            "claude-sonnet-4-5-small"
        )
        again = PROVIDER.retry(call, self.refusal(message))
        assert again is not None
        for sent in (again, PROVIDER.request(make_call(asked))):
            body = msgspec.json.decode(sent.body)
            assert body["max_tokens"] == 20_000
            assert body.get("thinking", {}).get("budget_tokens", 0) < 20_000

    def test_other_refusals_stand(self, make_call):
        with_it, without = make_call(BODY | {"temperature": 0.5}), make_call(BODY)
        assert PROVIDER.retry(with_it, self.refusal("max_tokens: too large")) is None
        assert PROVIDER.retry(with_it, self.refusal("temperature", status=429)) is None
        assert PROVIDER.retry(without, self.refusal("temperature")) is None
        assert with_it.dropped == []


SPENT = (402, "insufficient_quota", Outcome.SPENT)
DISABLED = (403, "organization_disabled", Outcome.AUTH)
REFUSED = (400, None, Outcome.REQUEST)


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "status", "type_", "code"),
        [
            ("api-error-401.json", 401, "authentication_error", "invalid_api_key"),
            (
                "api-error-400-prompt-too-long.json",
                400,
                "invalid_request_error",
                "context_length_exceeded",
            ),
            ("api-error-400-effort.json", 400, "invalid_request_error", None),
            ("api-error-404-model.json", 404, "invalid_request_error", "model_not_found"),
        ],
    )
    def test_recorded(self, name, status, type_, code):
        requests = msgspec.json.decode((RECORDED / "requests.json").read_bytes())
        body = (RECORDED / name).read_bytes()
        reply = UpstreamReply(requests[name]["status"], requests[name]["response_headers"], body)
        error = PROVIDER.read_error(reply)
        assert (error.status, error.type, error.code) == (status, type_, code)
        assert error.message == msgspec.json.decode(body)["error"]["message"]
        assert error.retry_after is None
        told = requests[name]["response_headers"].get("x-should-retry")
        assert error.headers == ((("x-should-retry", told),) if told else ())

    @pytest.mark.parametrize(
        ("status", "kind", "told", "type_", "code"),
        [
            (402, "billing_error", 402, "insufficient_quota", "insufficient_quota"),
            (403, "permission_error", 403, "permission_error", None),
            (404, "not_found_error", 404, "invalid_request_error", None),
            (409, "conflict_error", 409, "invalid_request_error", None),
            (413, "request_too_large", 413, "invalid_request_error", "request_too_large"),
            (422, "invalid_request_error", 422, "invalid_request_error", None),
            (429, "rate_limit_error", 429, "rate_limit_exceeded", "rate_limit_exceeded"),
            (500, "api_error", 500, "server_error", None),
            (504, "timeout_error", 504, "server_error", "timeout_error"),
            (529, "overloaded_error", 503, "server_error", "overloaded_error"),
            (418, "novel_error", 418, "invalid_request_error", None),
            (520, "novel_error", 502, "server_error", None),
            (302, "novel_error", 502, "server_error", None),
            (503, "novel_error", 503, "server_error", "overloaded_error"),
        ],
    )
    def test_the_table(self, status, kind, told, type_, code):
        body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": "Why"}})
        error = PROVIDER.read_error(UpstreamReply(status, {}, body))
        assert (error.status, error.type, error.code) == (told, type_, code)
        assert error.message == "Why"

    @pytest.mark.parametrize(
        "body", [b"", b"<html>413</html>", b"[]", b'{"error":"flat"}', b'{"error":{}}', b"\xff"]
    )
    @pytest.mark.parametrize("status", [400, 401, 413, 429, 500, 502, 529])
    def test_a_body_that_is_not_theirs_still_has_its_status(self, status, body):
        error = PROVIDER.read_error(UpstreamReply(status, {}, body))
        assert error.status == (503 if status == 529 else status)
        assert error.message == f"Anthropic answered {status} without a reason."

    @pytest.mark.parametrize(
        ("message", "status", "code", "outcome"),
        [
            ("Your credit balance is too low to access the Anthropic API.", *SPENT),
            (
                "You have reached your specified API usage limits. You will regain access on "
                "2027-01-01 at 00:00 UTC.",
                *SPENT,
            ),
            ("You have reached your specified workspace API usage limits.", *SPENT),
            ("You're out of extra usage. Add more at claude.ai/settings/usage.", *SPENT),
            ("This organization has been disabled.", *DISABLED),
            ("Your account has been suspended.", *DISABLED),
            ("This credential is only authorized for use with Claude Code.", *DISABLED),
            ("messages.0: This organization has been disabled.", *REFUSED),
            ("tools.0.name: You have reached your specified API usage limits.", *REFUSED),
        ],
    )
    @pytest.mark.parametrize("how", ["status 400", "status 403", "in a 200"])
    def test_the_accounts_trouble_is_not_the_requests(
        self, make_call, message, status, code, outcome, how
    ):
        kind = "permission_error" if how == "status 403" else "invalid_request_error"
        body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})
        if how == "in a 200":
            decoder = PROVIDER.decoder(make_call(BODY))
            decoder.feed(body)
            with pytest.raises(GatewayError) as caught:
                decoder.finish()
            error = caught.value
        else:
            error = PROVIDER.read_error(UpstreamReply(int(how[-3:]), {}, body))
        if outcome is Outcome.REQUEST and how == "status 403":
            status, code, outcome = 403, None, Outcome.FORBIDDEN
        assert (error.status, error.code, of_error(error)) == (status, code, outcome)
        assert error.message == message

    def test_no_account_and_no_key_is_told(self):
        organization = "11111111-2222-3333-4444-555555555555"
        message = (
            f"This exceeds the limit of org {organization} (wrkspc_01ABCDEFG), sk-ant-api03-k_y"
        )
        body = {"error": {"type": "rate_limit_error", "message": message}}
        error = PROVIDER.read_error(UpstreamReply(429, {}, msgspec.json.encode(body)))
        assert error.message == (
            "This exceeds the limit of org [redacted] ([redacted]), [redacted]"
        )

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "17"}, 17.0),
            ({"retry-after": "17", "retry-after-ms": "1500"}, 1.5),
            ({"retry-after": "nan"}, None),
            ({"retry-after": "-5"}, None),
            ({"retry-after": "Wed, 19 Aug 2026 14:34:40 GMT"}, 30.0),
            ({"anthropic-ratelimit-requests-reset": "2026-08-19T14:34:11Z"}, 1.0),
            (
                {
                    "anthropic-ratelimit-requests-reset": "2026-08-19T14:34:11Z",
                    "anthropic-ratelimit-requests-remaining": "99",
                    "anthropic-ratelimit-tokens-reset": "2026-08-19T14:34:25Z",
                    "anthropic-ratelimit-tokens-remaining": "0",
                },
                15.0,
            ),
            ({"anthropic-ratelimit-unified-reset": "1787150070"}, 20.0),
            ({"anthropic-ratelimit-requests-reset": "tomorrow"}, None),
        ],
    )
    def test_when_to_come_back(self, headers, seconds):
        date = {"date": "Wed, 19 Aug 2026 14:34:10 GMT"}
        error = PROVIDER.read_error(UpstreamReply(429, headers | date, b""))
        assert error.retry_after == seconds

    def test_resets_need_the_answers_own_date(self):
        headers = {"anthropic-ratelimit-requests-reset": "2026-08-19T14:34:11Z"}
        assert PROVIDER.read_error(UpstreamReply(429, headers, b"")).retry_after is None

    def test_overload_always_says_when_to_come_back(self):
        assert PROVIDER.read_error(UpstreamReply(529, {}, b"")).retry_after == 5.0


class TestKeys:
    def asked(self, **body: Any):
        return asked_of(body)

    @pytest.mark.parametrize(
        ("claude", "index"),
        [
            (None, None),
            ({}, None),
            ({"index": ""}, None),
            ({"index": "7"}, "7"),
            ({"index": 7}, "7"),
        ],
    )
    def test_the_body_may_name_a_key(self, claude, index):
        assert PROVIDER.index(self.asked(claude=claude)) == index

    def test_a_wrong_member_is_named(self):
        with pytest.raises(GatewayError) as caught:
            PROVIDER.index(self.asked(claude={"index": []}))
        assert caught.value.param == "claude.index"

    @pytest.mark.parametrize(
        ("body", "is_api"),
        [
            ({}, True),
            ({"claude": None}, True),
            ({"claude": {}}, True),
            ({"claude": {"type": ""}}, True),
            ({"claude": {"type": "api"}}, True),
            ({"claude": {"type": "web"}}, False),
        ],
    )
    def test_which_way_to_claude(self, body, is_api):
        assert is_claude_api(self.asked(**body)) is is_api

    def test_the_session_names_the_pools_key_and_never_the_callers(self, make_call):
        assert PROVIDER.session(make_call(BODY)) == {"claude": {"type": "api", "index": "10001"}}
        own = make_call(BODY, key=Key(POOL, "", "sk-ant-api03-own"))
        assert PROVIDER.session(own) == {"claude": {"type": "api"}}


class TestModels:
    def test_the_request(self):
        config = Config(claude=Claude(api_url="http://127.0.0.1:9"))
        request = PROVIDER.models_request(config, Key(POOL, "1", "sk-ant-api03-x"))
        assert (request.method, request.body) == ("GET", None)
        assert request.url == "http://127.0.0.1:9/v1/models?limit=1000"
        assert request.headers == [
            ("x-api-key", "sk-ant-api03-x"),
            ("anthropic-version", "2023-06-01"),
        ]

    def test_the_list(self):
        body = {
            "data": [
                {"type": "model", "id": "claude-a", "created_at": "2026-01-02T03:04:05Z", "new": 1},
                {"type": "model", "id": "claude-b", "created_at": "someday"},
                {"type": "model"},
            ],
            "has_more": False,
        }
        models = PROVIDER.read_models(UpstreamReply(200, {}, msgspec.json.encode(body)))
        assert models == [
            {"id": "claude-a", "object": "model", "created": 1767323045, "owned_by": "anthropic"},
            {"id": "claude-b", "object": "model", "created": 0, "owned_by": "anthropic"},
        ]

    def test_refusals_and_nonsense(self):
        with pytest.raises(GatewayError) as caught:
            PROVIDER.read_models(UpstreamReply(401, {}, b""))
        assert caught.value.status == 401
        with pytest.raises(GatewayError) as caught:
            PROVIDER.read_models(UpstreamReply(200, {}, b"<html>"))
        assert caught.value.code == "upstream_bad_response"


class TestForward:
    rule = FORWARDS[0]

    def test_where_it_goes(self):
        config = Config(claude=Claude(api_url="http://127.0.0.1:9", proxy_url="http://p:1"))
        assert (self.rule.prefix, self.rule.upstream_prefix) == ("/claude/api/", "/")
        assert (self.rule.base(config), self.rule.proxy(config)) == (
            "http://127.0.0.1:9",
            "http://p:1",
        )
        assert self.rule.pool == POOL

    def test_a_pool_key_takes_the_place_of_the_callers_headers(self):
        key = Key(POOL, "1", "sk-ant-api03-x")
        assert self.rule.credential(key, {}, Config()) == [("x-api-key", "sk-ant-api03-x")]
        assert self.rule.credential_headers == ("x-api-key", "authorization")

    def test_a_pools_oauth_token_brings_its_beta_beside_the_callers(self):
        headers = self.rule.credential(OAUTH, {"anthropic-beta": "files-api-2025-04-14"}, Config())
        assert headers == [
            ("authorization", "Bearer sk-ant-oat01-x"),
            ("anthropic-beta", "oauth-2025-04-20"),
        ]

    def test_the_version_is_only_a_default(self):
        assert self.rule.defaults(Config()) == [("anthropic-version", "2023-06-01")]

    def test_the_account_behind_a_pool_key_stays_private(self):
        assert set(self.rule.private_headers) >= {
            "anthropic-organization-id",
            "anthropic-workspace-id",
        }
