"""Entries of `upstreams` as callers meet them: names, addresses, credentials, repairs, lists.

The numbers are those of the acceptance list, protocol sheet openai-compatible, section 12.
"""

import json
import re
import socket
import time

import httpx
import pytest

from tests.recorded import recorded
from tests.server.running import free_port, running
from tests.server.scripted_upstream import ScriptedUpstream

CHAT = "/c/v1/chat/completions"
JSON = {"content-type": "application/json"}
ERRORS = json.loads((recorded("openai-compatible") / "errors.json").read_text("utf-8"))
LISTS = json.loads((recorded("openai-compatible") / "models-lists.json").read_text("utf-8"))
GOOD = {
    "status": 200,
    "headers": JSON,
    "body": {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ok"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
}
HI = [{"role": "user", "content": "hi"}]


def refusal(status: int, body, **headers) -> dict:
    return {"status": status, "headers": JSON | headers, "body": body}


def said(message: str, **more) -> dict:
    return {"error": {"message": message, **more}}


@pytest.fixture(scope="module")
def upstream():
    server = ScriptedUpstream()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, upstream):
    """Every upstream is the scripted server, below a path of its own."""

    def entry(name, *ids, **more):
        keys = [{"id": id, "val": f"key-{name}-{id}"} for id in ids or ("a",)]
        return {"name": name, "api_url": f"{upstream.url}/{name}/v1", "api_keys": keys} | more

    config = {
        "openai": {
            "api_url": f"{upstream.url}/openai",
            "api_keys": [{"id": "o", "val": "key-openai"}],
        },
        "upstreams": [
            "deepseek",
            entry("lab", api_keys=[], models=["qwen3-32b"]),
            entry("groq"),
            entry("pair", "a", "b"),
            entry("openrouter"),
            entry("mistral"),
            entry("think", like="deepseek"),
            entry("openai-eu"),
            {
                "name": "az",
                "like": "azure-deployments",
                "api_url": f"{upstream.url}/openai/deployments/{{model}}",
                "api_version": "2024-10-21",
                "api_keys": [{"id": "a", "val": "key-az"}],
                "models": ["gpt-az"],
            },
        ],
        "models": {"smart": ["think/deepseek-reasoner", "groq/llama"]},
    }
    folder = tmp_path_factory.mktemp("upstreams")
    with running(folder, config, env={"DEEPSEEK_API_KEY": ""}) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_rests(gateway):
    yield
    for key in httpx.get(f"{gateway.url}/admin/keys").json()["keys"]:
        if key["id"]:
            order = {"action": "reset", "id": key["id"], "pool": key["pool"]}
            httpx.post(f"{gateway.url}/admin/keys", json=order).raise_for_status()


def ask(gateway, body: dict, path: str = CHAT, **headers) -> httpx.Response:
    body = {"messages": HI} | body
    return httpx.post(gateway.url + path, json=body, headers=headers, timeout=20)


def answered(gateway, upstream, body, *answers, **headers):
    """The reply to a call, and what the upstream was asked."""
    upstream.script(list(answers) or [GOOD])
    reply = ask(gateway, body, **headers)
    return reply, list(upstream.asked)


def test_1_a_preset_without_its_variable_takes_a_callers_key_only(gateway, upstream):
    reply, asked = answered(gateway, upstream, {"model": "deepseek/deepseek-v4-flash"})
    assert reply.status_code == 401 and asked == []
    assert "upstreams.deepseek" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "path", "model"),
    [
        ({"model": "qwen3-32b", "provider": "lab"}, "/lab/v1", "qwen3-32b"),
        ({"model": "lab/qwen3-32b"}, "/lab/v1", "qwen3-32b"),
        ({"model": "qwen3-32b"}, "/lab/v1", "qwen3-32b"),
        ({"model": "groq/openai/gpt-oss-120b"}, "/groq/v1", "openai/gpt-oss-120b"),
        ({"model": "openrouter/auto"}, "/openrouter/v1", "openrouter/auto"),
        ({"model": "openai/gpt-4o"}, "/openai/v1", "gpt-4o"),
        ({"model": "gpt-4o"}, "/openai/v1", "gpt-4o"),
    ],
)
def test_2_names_and_prefixes_lead_to_one_url_and_do_not_travel(
    gateway, upstream, body, path, model
):
    reply, (asked,) = answered(gateway, upstream, body)
    assert reply.status_code == 200 and asked.target == f"{path}/chat/completions"
    assert asked.json() == {"messages": HI, "model": model}


def test_2_an_object_named_provider_is_openrouters_own(gateway, upstream):
    wish = {"only": ["xai"], "x": [1, {"y": None}]}
    body = {"model": "openrouter/x-ai/grok-4", "provider": wish}
    _, (asked,) = answered(gateway, upstream, body)
    assert asked.json() == {"messages": HI, "model": "x-ai/grok-4", "provider": wish}


def test_4_azures_deployments_get_the_api_key_header_and_no_bearer(gateway, upstream):
    for headers in ({}, {"authorization": "Bearer none"}):
        _, (asked,) = answered(gateway, upstream, {"model": "az/gpt 4o/x"}, **headers)
        assert asked.target == (
            "/openai/deployments/gpt%204o%2Fx/chat/completions?api-version=2024-10-21"
        )
        assert asked.headers["api-key"] == "key-az" and "authorization" not in asked.headers
    for query, wanted in (
        ("", "?api-version=2024-10-21"),
        ("?a=1", "?a=1&api-version=2024-10-21"),
        ("?api-version=preview", "?api-version=preview"),
    ):
        upstream.script([GOOD])
        raw = f"{gateway.url}/upstreams/az/deployments/e/embeddings{query}"
        httpx.post(raw, json={"input": "x"}, headers={"api-key": "EMPTY"})
        assert upstream.asked[0].target == f"/openai/deployments/e/embeddings{wanted}"
        assert upstream.asked[0].headers["api-key"] == "key-az"
        assert "authorization" not in upstream.asked[0].headers


@pytest.mark.parametrize("key", ["", "Bearer EMPTY", "Bearer sk-of-the-caller"])
def test_4_without_a_key_no_credential_leaves(gateway, upstream, key):
    headers = {"authorization": key} if key else {}
    for path, body in ((CHAT, {"model": "lab/x"}), ("/upstreams/lab/rerank", {"query": "q"})):
        upstream.script([GOOD])
        reply = ask(gateway, body, path, **headers)
        assert reply.status_code == 200, reply.text
        (asked,) = upstream.asked
        assert not {"authorization", "api-key", "x-api-key"} & set(asked.headers)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (401, said("no"), "refused"),
        (400, ERRORS["xai-400-wrong-key"]["body"], "refused"),
        (402, said("Insufficient Balance"), "spent"),
        (429, said("slow down", code="rate_limit_exceeded"), "rate limited"),
        (429, said("quota", type="exceeded_current_quota_error"), "spent"),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, "spent"),
        (498, said("flex tier capacity exceeded"), "upstream failed"),
        (529, said("overloaded"), "upstream failed"),
    ],
)
def test_5_a_refused_key_rests_as_its_refusal_says_and_the_next_answers(
    gateway, upstream, status, body, outcome
):
    reply, asked = answered(gateway, upstream, {"model": "pair/m"}, refusal(status, body), GOOD)
    assert reply.status_code == 200 and len({each.key for each in asked}) == 2
    lines = gateway.wait_log(1, request_id=reply.headers["x-request-id"])
    assert lines[0]["tried"][0]["outcome"] == outcome


def test_5_azures_zero_milliseconds_beside_a_second_are_a_second(gateway, upstream):
    one = ERRORS["azure-foundry-429"]
    busy = refusal(429, one["body"], **{"retry-after": "1", "retry-after-ms": "0"})
    reply, _ = answered(gateway, upstream, {"model": "groq/m"}, busy)
    assert reply.status_code == 429 and 0 < float(reply.headers["retry-after"]) <= 2


@pytest.mark.parametrize("case", ERRORS)
def test_6_every_recorded_refusal_is_told_with_its_own_message(gateway, upstream, case):
    one = ERRORS[case]
    kept = {n: v for n, v in one["headers"].items() if n != "content-length"}
    reply, _ = answered(
        gateway,
        upstream,
        {"model": "groq/m"},
        {"status": one["status"], "headers": kept, "body": one["body"]},
    )
    status = 401 if case == "xai-400-wrong-key" else one["status"]
    assert reply.status_code == status and "user_EXAMPLE" not in reply.text
    given = json.loads(one["body"])
    words = given.get("error") or given
    words = words.get("message") or words.get("detail") if isinstance(words, dict) else words
    told = reply.json()["error"]
    # Even a masked key of the operator's is not quoted.
    words = re.sub(r"\S*\*{3}\S*", "[secret]", words)
    assert words.rstrip(".") in told["message"] and set(told) >= {"message", "code"}


def test_6_a_redirect_names_the_setting(gateway, upstream):
    reply, _ = answered(gateway, upstream, {"model": "groq/m"}, refusal(308, "", location="/x"))
    assert reply.status_code == 502
    assert "upstreams[].api_url (groq)" in reply.json()["error"]["message"]


def test_8_keys_of_two_upstreams_with_one_id_rest_apart(gateway, upstream):
    answered(gateway, upstream, {"model": "groq/m"}, refusal(401, said("no")))
    keys = httpx.get(f"{gateway.url}/admin/keys").json()["keys"]
    states = {f"{key['pool']}/{key['id']}": key["state"] for key in keys}
    assert states["upstreams.groq/a"] != "awake" and states["upstreams.mistral/a"] == "awake"


def test_8_a_reload_with_the_upstreams_in_another_order_keeps_each_cooldown(tmp_path, upstream):
    def entry(name, id):
        return {
            "name": name,
            "api_url": f"{upstream.url}/{name}/v1",
            "api_keys": [{"id": id, "val": f"key-{name}"}],
        }

    config = {"upstreams": [entry("groq", "a"), entry("mistral", "a"), entry("xai", "b")]}
    with running(tmp_path, config) as gateway:
        told = json.loads(gateway.file.read_text())
        answered(gateway, upstream, {"model": "mistral/m"}, refusal(401, said("no")))
        told["upstreams"].reverse()
        gateway.file.write_text(json.dumps(told))
        assert httpx.post(f"{gateway.url}/admin/reload", timeout=60).json()["ok"] is True
        keys = httpx.get(f"{gateway.url}/admin/keys").json()["keys"]
        states = {key["pool"]: key["state"] for key in keys}
        assert states["upstreams.mistral"] != "awake"
        assert states["upstreams.groq"] == states["upstreams.xai"] == "awake"
        reply, asked = answered(gateway, upstream, {"model": "groq/m"})
        assert reply.status_code == 200 and asked[0].key == "key-groq"


REPAIRS = {
    "max_completion_tokens": (
        {"max_completion_tokens": 7},
        "Unrecognized request argument supplied: max_completion_tokens",
        lambda body: body.get("max_tokens") == 7 and "max_completion_tokens" not in body,
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "x"}, *HI]},
        "messages[0].role: unknown variant `developer`, expected one of `system`, `user`",
        lambda body: body["messages"][0]["role"] == "system",
    ),
    "stream_options": (
        {"stream_options": {"include_usage": True}},
        "Unrecognized request argument supplied: stream_options",
        lambda body: "stream_options" not in body,
    ),
    "reasoning_content": (
        {"messages": [*HI, {"role": "assistant", "content": "a", "reasoning_content": "t"}, *HI]},
        "'messages.1' : property 'reasoning_content' is unsupported",
        lambda body: body["messages"][1] == {"role": "assistant", "content": "a", "reasoning": "t"},
    ),
    "tool_call_id": (
        {"messages": [*HI, {"role": "tool", "tool_call_id": "call_1", "content": "1"}]},
        "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
        lambda body: len(body["messages"][1]["tool_call_id"]) == 9,
    ),
}


@pytest.mark.parametrize("where", ["groq", "openai"])
@pytest.mark.parametrize("name", REPAIRS)
def test_18_a_refused_body_is_repaired_named_and_right_at_once_the_next_time(
    gateway, upstream, name, where
):
    more, message, is_right = REPAIRS[name]
    if where == "openai" and name == "reasoning_content":
        is_right = lambda body: body["messages"][1] == {"role": "assistant", "content": "a"}  # noqa: E731
    body = {"model": f"{where}/{name}"} | more
    reply, asked = answered(gateway, upstream, body, refusal(400, said(message)), GOOD)
    assert reply.status_code == 200 and len(asked) == 2 and is_right(asked[1].json())
    assert asked[0].key == asked[1].key and not is_right(asked[0].json())
    assert reply.headers["x-gateway-dropped-params"] == name
    reply, asked = answered(gateway, upstream, body)
    assert len(asked) == 1 and is_right(asked[0].json())
    assert reply.headers["x-gateway-dropped-params"] == name


def test_18_two_repairs_one_after_the_other_and_not_without_end(gateway, upstream):
    wrong = [
        refusal(400, said(f"Unsupported parameter: '{name}'"))
        for name in ("seed", "stop", "user", "store", "metadata")
    ]
    members = {"seed": 1, "stop": ["a"], "user": "u", "store": True, "metadata": {}}
    reply, asked = answered(gateway, upstream, {"model": "groq/two"} | members, *wrong[:2], GOOD)
    assert reply.status_code == 200 and len(asked) == 3
    assert set(asked[2].json()) == {"model", "messages", "user", "store", "metadata"}
    reply, asked = answered(gateway, upstream, {"model": "groq/all"} | members, *wrong)
    assert reply.status_code == 400 and len(asked) == 5
    assert reply.json()["error"]["message"].startswith("Unsupported parameter")
    # What did not help is not remembered.
    _, asked = answered(gateway, upstream, {"model": "groq/all"} | members)
    assert asked[0].json().keys() == {"model", "messages", *members}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tool_choice": "required"}, "tool_choice 'required' is not supported"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "'response_format' of type json_schema is not supported",
        ),
        ({"n": 2}, "'n' is not supported"),
    ],
)
def test_18_what_would_mean_something_else_is_told(gateway, upstream, more, message):
    body = {"model": "groq/told"} | more
    reply, asked = answered(gateway, upstream, body, refusal(400, said(message)))
    assert reply.status_code == 400 and len(asked) == 1
    assert reply.json()["error"]["message"] == message


def test_19_thinking_survives_a_fallback_to_an_upstream_with_another_name_for_it(gateway, upstream):
    """DeepSeek's turn goes to Groq, which takes no reasoning_content."""
    turn = {"role": "assistant", "content": "a", "reasoning_content": "thought"}
    body = {"model": "smart", "messages": [*HI, turn, *HI]}
    groq = refusal(400, said("'messages.1' : property 'reasoning_content' is unsupported"))
    spent = refusal(402, said("Insufficient Balance"))
    reply, asked = answered(gateway, upstream, body, spent, groq, GOOD)
    assert reply.status_code == 200, reply.text
    assert [each.target.split("/")[1] for each in asked] == ["think", "groq", "groq"]
    assert asked[0].json()["messages"][1] == turn
    assert asked[2].json()["messages"][1] == {
        "role": "assistant",
        "content": "a",
        "reasoning": "thought",
    }
    assert reply.headers["x-gateway-model"] == "groq/llama"


def test_19_a_tool_loop_through_messages_gives_deepseek_its_thinking_back(gateway, upstream):
    blocks = [
        {"type": "thinking", "thinking": "first 1+1", "signature": ""},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
    ]
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "2"}
    body = {
        "model": "think/deepseek-reasoner",
        "max_tokens": 50,
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            *HI,
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": [result]},
        ],
    }
    upstream.script([GOOD])
    reply = ask(gateway, body, "/c/v1/messages", **{"anthropic-version": "2023-06-01"})
    assert reply.status_code == 200, reply.text
    sent = upstream.asked[0].json()
    assert sent["max_tokens"] == 50 and "max_completion_tokens" not in sent
    assert sent["messages"][1]["reasoning_content"] == "first 1+1"


def thinks_and_calls() -> dict:
    """DeepSeek's answer that calls f after a thought."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = {"role": "assistant", "content": "", "reasoning_content": "first 1+1"}
    choice = {
        "index": 0,
        "message": turn | {"tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    return GOOD | {"body": GOOD["body"] | {"choices": [choice]}}


def test_19_a_tool_loop_of_googles_clients_gives_deepseek_its_thinking_back(gateway, upstream):
    """gemini-cli keeps no thoughts, but the signature of a call."""
    upstream.script([thinks_and_calls(), GOOD])
    path = "/c/v1beta/models/think%2Fdeepseek-reasoner:generateContent"
    asked = {"tools": [{"functionDeclarations": [{"name": "f"}]}]}
    said = [{"role": "user", "parts": [{"text": "hi"}]}]
    reply = ask(gateway, asked | {"contents": said}, path)
    assert reply.status_code == 200, reply.text
    turn = reply.json()["candidates"][0]["content"]
    assert [list(part) for part in turn["parts"]] == [["functionCall", "thoughtSignature"]]
    result = {"functionResponse": {"name": "f", "response": {"output": "2"}}}
    said += [turn, {"role": "user", "parts": [result]}]
    reply = ask(gateway, asked | {"contents": said}, path)
    assert reply.status_code == 200, reply.text
    sent = upstream.asked[1].json()["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["reasoning_content"] == "first 1+1"


def test_19_a_tool_loop_through_responses_gives_deepseek_its_thinking_back(gateway, upstream):
    """The thinking that the first answer told travels in the caller's items, and comes back."""
    upstream.script([thinks_and_calls(), GOOD])
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
    asked = {
        "model": "think/deepseek-reasoner",
        "tools": [tool],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    said_first = [{"role": "user", "content": "hi"}]
    reply = httpx.post(
        f"{gateway.url}/c/v1/responses", json=asked | {"input": said_first}, timeout=20
    )
    assert reply.status_code == 200, reply.text
    output = reply.json()["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    result = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "2"}
    again = asked | {"input": [*said_first, *output, result]}
    reply = httpx.post(f"{gateway.url}/c/v1/responses", json=again, timeout=20)
    assert reply.status_code == 200, reply.text
    sent = upstream.asked[1].json()["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["reasoning_content"] == "first 1+1"


def test_23_a_callers_own_key_goes_where_its_name_says_and_nowhere_else(gateway, upstream):
    own = {"authorization": "Bearer sk-of-the-caller"}
    for body in ({"model": "groq/m"}, {"model": "m", "provider": "groq"}):
        _, (asked,) = answered(gateway, upstream, body, **own)
        assert asked.target.startswith("/groq/") and asked.key == "sk-of-the-caller"
    _, (asked,) = answered(gateway, upstream, {"model": "smart"}, **own)
    assert asked.key == "key-think-a"
    # A refused key of the caller's is never tried at a fallback.
    _, (asked,) = answered(gateway, upstream, {"model": "groq/m"}, refusal(401, said("no")), **own)
    assert asked.key == "sk-of-the-caller"


@pytest.mark.parametrize("name", ["api_base", "base_url", "custom_host", "api_url"])
def test_23_nobody_names_a_host(gateway, upstream, name):
    other = f"http://127.0.0.1:{free_port()}"
    upstream.script([GOOD])
    reply = httpx.post(
        f"{gateway.url}{CHAT}?{name}={other}",
        json={"model": "groq/m", "messages": HI, name: other},
        headers={name: other, f"x-{name.replace('_', '-')}": other, "x-portkey-custom-host": other},
        timeout=20,
    )
    assert reply.status_code == 200 and upstream.asked[0].target == "/groq/v1/chat/completions"


def test_6_and_7_lists_of_every_shape_and_tokens_that_name_their_upstreams(tmp_path, upstream):
    dead = f"http://127.0.0.1:{free_port()}/v1"
    key = [{"id": "a", "val": "k"}]
    silent = socket.create_server(("127.0.0.1", 0))  # it accepts and never answers
    silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
    config = {
        "upstreams": [
            {"name": "openrouter", "api_url": f"{upstream.url}/v1", "api_keys": key},
            {"name": "lab", "api_url": dead, "api_keys": [], "models": ["qwen3-32b", "other"]},
            {"name": "openai-eu", "api_url": dead, "api_keys": key},
            {"name": "hanging", "api_url": silent_url, "api_keys": key},
        ],
        "models": {"fast": "lab/other", "any-*": "lab/*"},
        "access": {
            "tokens": [
                {"id": "all", "val": "token-of-all-0123456789"},
                {"id": "few", "val": "token-of-few-0123456789", "providers": ["openai"]},
            ]
        },
    }
    bearer = {"authorization": "Bearer token-of-all-0123456789"}
    with silent, running(tmp_path, config) as gateway:
        upstream.script([{"status": 200, "headers": JSON, "body": LISTS["openrouter"]["body"]}])
        began = time.monotonic()
        models = httpx.get(f"{gateway.url}/c/v1/models", headers=bearer, timeout=20).json()["data"]
        assert time.monotonic() - began < 4  # neither the dead one nor the silent one
        assert [model["id"] for model in models[:3]] == ["fast", "qwen3-32b", "other"]
        assert models[0]["aliases"] is True
        assert models[3]["id"].startswith("openrouter/") and models[3]["pricing"]
        for model in models:
            assert model["object"] == "model" and model["owned_by"]
            assert isinstance(model["created"], int)
        few = {"authorization": "Bearer token-of-few-0123456789"}
        for name in ("openai-eu/gpt-4o", "lab/qwen3-32b"):
            reply = ask(gateway, {"model": name}, **few)
            assert reply.status_code == 403 and "openai" in reply.text
