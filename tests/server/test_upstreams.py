"""`upstreams` of the config over real sockets: many hosts of OpenAI's wire behind one gateway."""

import json
import re
import subprocess
import sys

import httpx
import openai
import pytest

from tests.fronts.gemini_calls import recordings
from tests.recorded import recorded, requests_of_clients
from tests.server.conftest import config_for
from tests.server.hosts import HOSTS, KEYED, upstream
from tests.server.running import ROOT, running

HI = [{"role": "user", "content": "hi"}]
CALL = [{"role": "user", "content": 'call get_weather with {"city": "Paris"}'}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOLED = [name for name in HOSTS if name != "perplexity"]


@pytest.fixture(scope="module")
def hosts(simulator, tmp_path_factory):
    entries = [upstream(simulator.url, name) for name in HOSTS]
    by_name = {entry["name"]: entry for entry in entries}
    by_name["groq"]["api_keys"].append({"id": "b", "val": "demo-groq-two"})
    by_name["azure-deployments"]["models"] = ["my-gpt"]
    entries += [
        upstream(simulator.url, "openai-eu", "vllm"),
        upstream(
            simulator.url,
            "xai-two-keys",
            "xai",
            api_keys=[{"id": "wrong", "val": "demo-bad"}, {"id": "right", "val": "demo-right"}],
        ),
    ]
    config = config_for(simulator.url) | {
        "upstreams": entries,
        "models": {
            "fast": "groq/llama-3.3-70b-versatile",
            "smart": ["deepseek/sim-503-smart", "openrouter/anthropic/claude-haiku-4.5"],
            "local-*": "ollama/*",
        },
    }
    with running(tmp_path_factory.mktemp("hosts"), config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(hosts):
    with openai.OpenAI(
        base_url=f"{hosts.url}/c/v1", api_key="pool", max_retries=0, timeout=20
    ) as made:
        yield made


def sent(name, model):
    """The name that reaches the host. OpenRouter's always hold a slash."""
    return f"x/{model}" if name == "openrouter" else model


def ask(client, name, model="a-model", **members):
    model = f"{name}/{sent(name, model)}"
    return client.chat.completions.create(model=model, **{"messages": HI} | members)


def post(gateway, body, path="/c/v1/chat/completions", headers=None):
    return httpx.post(gateway.url + path, json=body, headers=headers, timeout=20)


def recorded_calls() -> list[tuple[str, str, dict]]:
    """Bodies of real clients of other APIs, `{model}` in their paths."""
    found = [("/c/v1/messages", n, call["body"]) for n, call in requests_of_clients().items()]
    for name, call in recordings().items():
        method = call["path"].rpartition(":")[2]
        if method.startswith(("generateContent", "streamGenerateContent")):
            found.append(("/c/v1beta/models/{model}:" + method, name, call["body"]))
    told = json.loads((recorded("responses") / "client-requests.json").read_bytes())
    for name, call in told.items():
        body = call.get("body") or {}
        stored = ("previous_response_id", "item_reference")  # what another gateway has kept
        if call["method"] == "POST" and not any(each in json.dumps(body) for each in stored):
            found.append(("/c/v1/responses", name, body))
    return found


@pytest.mark.parametrize("name", TOOLED)
def test_what_clients_of_other_apis_send_is_never_refused_by_a_host(hosts, name):
    """A model that thinks, which hosts have the most rules for. What cannot be had is told by the
    gateway."""
    model, refused = f"{name}/{sent(name, 'thinking-model')}", {}
    with httpx.Client(base_url=hosts.url, timeout=30) as http:
        for path, label, body in recorded_calls():
            named = {} if "{model}" in path else {"model": model}
            reply = http.post(path.format(model=model.replace("/", "%2F")), json=body | named)
            if reply.status_code != 200 and "is run by" not in reply.text:
                refused[label] = reply.text
    assert not refused


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_answers_streamed_and_whole(hosts, client, name):
    whole = ask(client, name)
    assert whole.choices[0].message.content == "You said: hi"
    assert whole.usage.total_tokens > 0
    chunks = list(ask(client, name, stream=True))
    said = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == "You said: hi"
    assert said[-1].finish_reason in ("stop", "eos")
    calls = hosts.wait_log(2, provider=name, model=sent(name, "a-model"), outcome="complete")
    assert {call.get("stream", False) for call in calls} == {True, False}


@pytest.mark.parametrize("name", HOSTS)
def test_thinking_arrives_as_the_host_spells_it(client, name):
    """Bytes travel untouched: clients of these hosts know their spelling."""
    chunks = list(ask(client, name, "thinking-model", stream=True))
    deltas = [choice.delta.to_dict(warnings=False) for chunk in chunks for choice in chunk.choices]
    thought = "".join(d.get("reasoning_content") or d.get("reasoning") or "" for d in deltas)
    parts = [p for d in deltas if isinstance(d.get("content"), list) for p in d["content"]]
    thought += "".join(part["thinking"][0]["text"] for part in parts)
    text = "".join(d["content"] for d in deltas if isinstance(d.get("content"), str))
    if "<think>" in text:
        assert text.startswith("<think>\nThe user said: hi\n</think>")
    elif name != "azure-deployments":
        assert thought == "The user said: hi"
    assert text.endswith("You said: hi")


@pytest.mark.parametrize("name", TOOLED)
def test_a_tool_is_called_and_its_result_comes_back(client, name):
    first = ask(client, name, messages=CALL, tools=[TOOL])
    (call,) = first.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"} and call.id
    streamed = [
        part
        for chunk in ask(client, name, messages=CALL, tools=[TOOL], stream=True)
        for choice in chunk.choices
        for part in choice.delta.tool_calls or []
    ]
    assert "".join(part.function.arguments for part in streamed) == '{"city":"Paris"}'
    history = [
        *CALL,
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    last = ask(client, name, messages=history, tools=[TOOL])
    assert last.choices[0].message.content == "The tool said: sunny"


def test_the_key_of_a_host_is_sent_as_the_host_wants_it(simulator, client):
    for name in HOSTS:
        ask(client, name, f"key-of-{name}")
        (seen,) = simulator.last(1, model=sent(name, f"key-of-{name}"))
        headers = {header.lower(): value for header, value in seen["headers"]}
        if name == "azure-deployments":
            assert headers["api-key"] and "authorization" not in headers
            assert seen["target"].endswith(
                f"/deployments/key-of-{name}/chat/completions?api-version=2024-10-21"
            )
        else:
            assert ("authorization" in headers) == (name in KEYED)
        assert "x-auth-id" not in headers


def test_openrouters_own_provider_member_travels(simulator, hosts):
    body = {
        "model": "openrouter/x-ai/grok-4-here",
        "messages": HI,
        "provider": {"only": ["xai"]},
    }
    assert post(hosts, body).status_code == 200
    (seen,) = simulator.last(1, model="x-ai/grok-4-here")
    assert seen["json"]["provider"] == {"only": ["xai"]}
    assert seen["json"]["model"] == "x-ai/grok-4-here"


def test_every_list_is_read_and_a_listed_id_can_be_asked(client):
    ids = {model.id for model in client.models.list()}
    wanted = {
        "deepseek/deepseek-v4-flash",
        "groq/openai/gpt-oss-120b",
        "openrouter/anthropic/claude-haiku-4.5",
        "cerebras/gpt-oss-120b",
        "ollama/qwen3",
        "vllm/Qwen/Qwen3-32B",
        "llamacpp/tiny",
        "huggingface/Qwen/Qwen3-32B:groq",
        "gpt-4o",
    }
    assert wanted <= ids
    for model in wanted:
        answer = client.chat.completions.create(model=model, messages=HI)
        assert answer.choices[0].message.content == "You said: hi"


def test_aliases_lead_to_upstreams_and_a_list_fails_over(client):
    raw = client.chat.completions.with_raw_response
    for alias, model in (
        ("fast", "llama-3.3-70b-versatile"),
        ("smart", "anthropic/claude-haiku-4.5"),
        ("local-qwen3", "qwen3"),
    ):
        answer = raw.create(model=alias, messages=HI)
        assert answer.parse().model == alias
        assert answer.headers["x-gateway-model"].endswith(f"/{model}")
        assert answer.parse().choices[0].message.content == "You said: hi"


@pytest.mark.parametrize("name", HOSTS)
def test_an_unknown_model_is_told_in_openais_envelope(hosts, name):
    refused = post(hosts, {"model": f"{name}/missing-model", "messages": HI})
    assert refused.status_code in (400, 404)
    error = refused.json()["error"]
    assert error["message"] and "without a message" not in error["message"]
    assert "user_SIMULATOR" not in refused.text


def test_a_token_for_openai_does_not_reach_openai_eu(simulator, tmp_path):
    tokens = [
        {"id": "narrow", "val": "narrow-token-0001", "providers": ["openai"]},
        {"id": "eu", "val": "eu-token-00000001", "providers": ["openai-eu"]},
    ]
    config = config_for(
        simulator.url,
        upstreams=[upstream(simulator.url, "openai-eu", "vllm", models=["eu-model"])],
        access={"tokens": tokens},
    )
    with running(tmp_path, config) as gateway:

        def status(token, model):
            headers = {"authorization": f"Bearer {token}"}
            return post(gateway, {"model": model, "messages": HI}, headers=headers).status_code

        assert status("narrow-token-0001", "gpt-4o") == 200
        assert status("narrow-token-0001", "openai-eu/eu-model") == 403
        assert status("eu-token-00000001", "openai-eu/eu-model") == 200
        assert status("eu-token-00000001", "gpt-4o") == 403
        assert {each["path"] for each in simulator.last(2)} == {
            "/openai/v1/chat/completions",
            "/compatible/vllm/v1/chat/completions",
        }
        raw = httpx.post(
            f"{gateway.url}/upstreams/openai-eu/chat/completions",
            json={"model": "m", "messages": HI},
            headers={"authorization": "Bearer narrow-token-0001"},
        )
        assert raw.status_code == 403


def test_operators_see_upstreams_like_any_other_pool(hosts, client):
    ask(client, "groq", "seen-by-operators")
    metrics = httpx.get(f"{hosts.url}/metrics").text
    assert 'gateway_key_state{provider="upstreams.groq",key_id="a"} 1' in metrics
    assert 'gateway_requests_total{provider="groq"' in metrics
    keys = httpx.get(f"{hosts.url}/admin/keys").json()["keys"]
    groq = {key["id"] for key in keys if key["pool"] == "upstreams.groq"}
    assert groq == {"a", "b"}
    assert sum(key["uses"] for key in keys if key["pool"] == "upstreams.groq") > 0
    said = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "keys", "list", "-c", str(hosts.file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert re.search(r"upstreams\.groq +a ", said) and re.search(r"upstreams\.groq +b ", said)
    assert "demo-groq-one" not in said + metrics


def test_the_raw_route_to_a_host_that_wants_no_key_sends_none(simulator, hosts):
    reply = httpx.get(f"{hosts.url}/upstreams/llamacpp/models", timeout=20)
    assert reply.status_code == 200 and reply.json()["models"]
    assert simulator.last(1, path="/compatible/llamacpp/v1/models")[0]["key"] == ""


def test_the_raw_route_forwards_with_the_pools_key(simulator, hosts):
    reply = httpx.post(
        f"{hosts.url}/upstreams/mistral/embeddings",
        json={"model": "mistral-embed-raw", "input": "a"},
        timeout=20,
    )
    assert reply.status_code == 200 and len(reply.json()["data"][0]["embedding"]) == 1024
    assert simulator.last(1, model="mistral-embed-raw")[0]["key"] == "demo-mistral-one"


def test_a_limited_key_rests_and_the_other_one_answers(simulator, tmp_path):
    keys = [{"id": "a", "val": "demo-limited-9"}, {"id": "b", "val": "demo-well"}]
    config = config_for(simulator.url, upstreams=[upstream(simulator.url, "groq", api_keys=keys)])
    with running(tmp_path, config) as gateway:
        for number in range(4):
            body = {"model": f"groq/two-keys-{number}", "messages": HI}
            assert post(gateway, body).status_code == 200
        last = {
            key["id"]: key["last_status"]
            for key in httpx.get(f"{gateway.url}/admin/keys").json()["keys"]
            if key["pool"] == "upstreams.groq"
        }
        assert last == {"a": 429, "b": 200}


def test_xais_400_for_a_wrong_key_goes_to_the_next_key(client):
    for number in range(3):
        answer = ask(client, "xai-two-keys", f"round-{number}")
        assert answer.choices[0].message.content == "You said: hi"


REPAIRS = [
    ("deepseek", {"messages": [{"role": "developer", "content": "be brief"}, *HI]}),
    ("mistral", {"messages": [{"role": "developer", "content": "be brief"}, *HI]}),
    ("dashscope", {"messages": [{"role": "developer", "content": "be brief"}, *HI]}),
    ("zai", {"messages": [{"role": "developer", "content": "be brief"}, *HI]}),
    ("mistral", {"max_completion_tokens": 50}),
    ("mistral", {"stream": True, "stream_options": {"include_usage": True}}),
    ("mistral", {"user": "a", "seed": 1}),
    ("groq", {"logprobs": True}),
    ("cerebras", {"frequency_penalty": 0.1}),
    ("groq", {"messages": [*HI, {"role": "assistant", "content": "a", "reasoning_content": "b"}]}),
    (
        "mistral",
        {
            "messages": [
                *CALL,
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "id": "call_0123456789abcdef",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_0123456789abcdef", "content": "sunny"},
            ]
        },
    ),
]


@pytest.mark.parametrize(("name", "members"), REPAIRS)
def test_what_a_host_refuses_is_repaired(hosts, name, members):
    reply = post(hosts, {"model": f"{name}/a-model", "messages": HI} | members)
    assert reply.status_code == 200, reply.text
    assert "x-gateway-dropped-params" in reply.headers


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("groq", "sim-error-event-1"),
        ("vllm", "sim-error-event-1"),
        ("llamacpp", "sim-error-event-1"),
        ("openrouter", "sim-error-event-3"),
        ("deepseek", "sim-error-event-3"),
    ],
)
def test_an_error_inside_a_200_is_an_upstream_error(hosts, client, name, model):
    with pytest.raises(openai.APIError, match="had an error while processing"):
        for chunk in ask(client, name, model, stream=True):
            assert chunk
    (call, *_) = hosts.wait_log(provider=name, model=sent(name, model))
    assert call["outcome"] == "upstream_error"
