"""The simulated hosts of OpenAI's chat wire: each departs from OpenAI as its recordings do."""

import json

import pytest

from app.simulator.compatible_hosts import HOSTS
from tests.simulator.wire import ask

HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = [{"role": "user", "content": 'call get_weather with {"city": "Paris"}'}]
TWO = [
    {
        "role": "user",
        "content": 'call get_weather with {"city": "Paris"} and get_weather with {"city": "Rome"}',
    }
]
DEPLOYMENTS = "azure-deployments"
TOOLED = [name for name in HOSTS if name != "perplexity"]


def address(name, path, model="a-model"):
    if name == DEPLOYMENTS:
        return f"/compatible/{name}/openai/deployments/{model}{path}?api-version=2024-10-21"
    return f"/compatible/{name}/v1{path}"


def credential(name, key="demo-wire"):
    header = "api-key" if name == DEPLOYMENTS else "Authorization"
    return (header, key if name == DEPLOYMENTS else f"Bearer {key}")


def post(simulator, name, path="/chat/completions", key="demo-wire", **members):
    body = {"model": "a-model", "messages": HI, **members}
    headers = [credential(name, key)] if key else []
    where = address(name, path, body["model"])
    return ask(simulator.url, "POST", where, headers, json.dumps(body).encode())


def chunks(seen):
    assert seen.status == 200, seen.body
    lines = seen.body.decode().split("\n\n")
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def deltas(seen):
    return [c["delta"] for chunk in chunks(seen) for c in chunk["choices"]]


def text_of(seen):
    return "".join(d["content"] for d in deltas(seen) if isinstance(d.get("content"), str))


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_says_the_same_streamed_and_whole(simulator, name):
    streamed = post(simulator, name, stream=True)
    assert text_of(streamed) == "You said: hi"
    whole = json.loads(post(simulator, name).body)
    assert whole["choices"][0]["message"]["content"] == "You said: hi"
    assert whole["usage"]["total_tokens"] > 0
    if name == "perplexity":
        assert b"[DONE]" not in streamed.body
        assert chunks(streamed)[-1]["object"] == "chat.completion.done"
    else:
        assert streamed.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("name", "member"),
    [
        *((name, "reasoning_content") for name in ("deepseek", "xai", "zai", "llamacpp")),
        *((name, "reasoning") for name in ("groq", "cerebras", "ollama", "vllm", "openrouter")),
    ],
)
def test_thinking_has_the_hosts_own_name(simulator, name, member):
    said = post(simulator, name, stream=True, model="some-thinking-model")
    thought = "".join(delta.get(member) or "" for delta in deltas(said))
    assert thought == "The user said: hi" and text_of(said) == "You said: hi"
    whole = json.loads(post(simulator, name, model="some-thinking-model").body)
    assert whole["choices"][0]["message"][member] == "The user said: hi"
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4


def test_thinking_in_parts_in_tags_and_in_details(simulator):
    parts = [d["content"] for d in deltas(post(simulator, "mistral", stream=True, model="think"))]
    thought = [p["thinking"][0]["text"] for c in parts if isinstance(c, list) for p in c]
    assert "".join(thought) == "The user said: hi"
    tags = post(simulator, "together", stream=True, model="think")
    assert text_of(tags) == "<think>\nThe user said: hi\n</think>\n\nYou said: hi"
    said = deltas(post(simulator, "openrouter", stream=True, model="think"))
    details = [item for d in said for item in d.get("reasoning_details", [])]
    assert "".join(each.get("text", "") for each in details) == "The user said: hi"
    assert "signature" in details[-1] and "text" not in details[-1]


@pytest.mark.parametrize("asked", [False, True])
def test_usage_stands_where_each_host_puts_it(simulator, asked):
    options = {"stream_options": {"include_usage": True}} if asked else {}

    def places(name):
        said = chunks(post(simulator, name, stream=True, **options))
        return [at - len(said) for at, chunk in enumerate(said) if chunk.get("usage")]

    assert places("deepseek") == [-1] == places("zai") == places("together")
    assert places("xai") == ([-1] if asked else []) == places("ollama") == places("vllm")
    groq = chunks(post(simulator, "groq", stream=True, **options))
    assert places("groq") == ([-1] if asked else [])
    assert [bool(chunk.get("x_groq")) for chunk in groq].count(True) == 1
    again = chunks(post(simulator, "openrouter", stream=True, **options))
    assert places("openrouter") == [-1]
    assert [c["choices"][0]["finish_reason"] for c in again[-2:]] == ["stop", "stop"]
    always = chunks(post(simulator, "perplexity", stream=True))
    counts = [chunk["usage"]["completion_tokens"] for chunk in always]
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_xai_counts_its_thinking_beside_the_answer(simulator):
    usage = json.loads(post(simulator, "xai", model="think").body)["usage"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert usage["total_tokens"] == (
        usage["prompt_tokens"] + usage["completion_tokens"] + reasoning
    )


@pytest.mark.parametrize("name", TOOLED)
def test_tool_calls_come_whole_or_in_pieces_with_the_hosts_ids(simulator, name):
    calls = [
        call
        for delta in deltas(post(simulator, name, stream=True, messages=CALL, tools=[TOOL]))
        for call in delta.get("tool_calls", [])
    ]
    ways = HOSTS[name].tools
    assert (len(calls) == 1) == ways.is_whole
    assert "".join(c["function"]["arguments"] for c in calls) == '{"city":"Paris"}'
    assert ("type" in calls[0]) == ways.has_type
    assert ("index" in calls[0]) == (ways.index != "none")
    identity = calls[0]["id"]
    assert (len(identity) == 9) == (ways.ids == "nine")
    assert (identity == "functions.get_weather:0") == (ways.ids == "functions")
    assert [c["id"] for c in calls[1:] if "id" in c] == [""] * (
        len(calls[1:]) if ways.repeats_id else 0
    )


def test_ollamas_parallel_calls_all_say_index_0(simulator):
    said = deltas(post(simulator, "ollama", stream=True, messages=TWO, tools=[TOOL]))
    calls = [call for delta in said for call in delta.get("tool_calls", [])]
    assert [call["index"] for call in calls] == [0, 0]
    assert calls[0]["id"] != calls[1]["id"]


def test_what_comes_before_the_first_chunk(simulator):
    assert post(simulator, "openrouter", stream=True).body.startswith(b": OPENROUTER PROCESSING\n")
    assert post(simulator, "deepseek", stream=True).body.startswith(b": keep-alive\n\n")
    assert post(simulator, "openrouter").body.startswith(b"\n")
    first = chunks(post(simulator, DEPLOYMENTS, stream=True))[0]
    assert first["choices"] == [] and first["id"] == "" and "prompt_filter_results" in first


SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
ASSISTANT = {"role": "assistant", "content": "a"}
LOOP = [
    *CALL,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call_123456",
                "type": "function",
                "function": {"name": "get_weather", "arguments": "{}"},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_123456", "content": "sunny"},
]
REFUSED = [
    ("deepseek", {"messages": [{"role": "developer", "content": "a"}]}, "unknown variant"),
    ("deepseek", {"response_format": SCHEMA}, "response_format"),
    ("deepseek", {"response_format": {"type": "json_object"}}, "word 'json'"),
    ("deepseek", {"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "expected `function`"),
    ("deepseek", {"messages": LOOP, "thinking": {"type": "enabled"}}, "reasoning_content"),
    ("groq", {"logprobs": True}, "'logprobs' is unsupported"),
    ("groq", {"n": 2}, "at most 1"),
    ("groq", {"messages": [{**ASSISTANT, "reasoning_content": "b"}, *HI]}, "reasoning_content"),
    ("groq", {"messages": [{"role": "user", "content": "a", "name": "b"}]}, "'name'"),
    ("mistral", {"stream": True, "stream_options": {"include_usage": True}}, "extra_forbidden"),
    ("mistral", {"max_completion_tokens": 5}, "max_completion_tokens"),
    ("mistral", {"seed": 5}, "seed"),
    ("mistral", {"user": "a"}, "extra_forbidden"),
    ("mistral", {"tools": []}, "at least 1"),
    ("mistral", {"tools": [TOOL], "tool_choice": "required"}, "'any'"),
    ("mistral", {"messages": LOOP}, "length of 9"),
    ("mistral", {"messages": [*HI, ASSISTANT]}, "got assistant"),
    ("mistral", {"messages": [{"role": "developer", "content": "a"}, *HI]}, "developer"),
    ("xai", {"model": "think", "stop": ["a"]}, "stop"),
    ("xai", {"model": "think", "presence_penalty": 1}, "presence_penalty"),
    ("moonshot", {"model": "think", "tools": [TOOL], "tool_choice": "required"}, "thinking"),
    ("moonshot", {"model": "think", "messages": LOOP}, "reasoning_content"),
    ("dashscope", {"messages": [{"role": "developer", "content": "a"}, *HI]}, "developer"),
    ("dashscope", {"enable_thinking": True}, "non-streaming"),
    ("zai", {"messages": [{"role": "developer", "content": "a"}, *HI]}, "1214"),
    ("zai", {"response_format": SCHEMA}, "response_format"),
    ("perplexity", {"tools": [TOOL]}, "tools"),
    ("perplexity", {"messages": [*HI, *HI]}, "alternate"),
    ("cerebras", {"frequency_penalty": 1}, "frequency_penalty"),
    ("cerebras", {"messages": [{**ASSISTANT, "reasoning_content": "b"}, *HI]}, "reasoning_content"),
    ("vllm", {"model": "no-tool-parser", "tools": [TOOL]}, "auto"),
    (
        "ollama",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}],
                }
            ]
        },
        "image",
    ),
]


@pytest.mark.parametrize(("name", "members", "words"), REFUSED)
def test_what_a_host_refuses(simulator, name, members, words):
    seen = post(simulator, name, **members)
    said = seen.body.decode()
    assert seen.status == (422 if "extra_forbidden" in said or "tag 'dev" in said else 400), said
    assert words in said


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("groq", {"tools": [TOOL], "tool_choice": "required"}),
        ("openrouter", {"provider": {"only": ["xai"]}, "transforms": [], "usage": {}}),
        ("openrouter", {"messages": [{"role": "developer", "content": "a"}, *HI]}),
        ("mistral", {"random_seed": 5, "safe_prompt": True, "max_tokens": 5}),
        ("mistral", {"tools": [TOOL], "tool_choice": "any", "messages": CALL}),
        ("cerebras", {"messages": [{**ASSISTANT, "reasoning": "b"}, *HI]}),
        ("deepseek", {"messages": [LOOP[0], LOOP[1] | {"reasoning_content": "b"}, LOOP[2]]}),
        ("vllm", {"top_k": 5, "chat_template_kwargs": {}}),
        ("ollama", {"logit_bias": {}, "user": "a"}),
        ("dashscope", {"enable_thinking": True, "stream": True}),
    ],
)
def test_what_a_host_takes(simulator, name, members):
    assert post(simulator, name, **members).status == 200


WRONG_KEY = {
    "deepseek": (401, "error.message", "Authentication Fails"),
    "groq": (401, "error.code", "invalid_api_key"),
    "openrouter": (401, "error.code", 401),
    "mistral": (401, "detail", "Invalid API Key"),
    "xai": (400, "error", "Incorrect API key provided"),
    "moonshot": (401, "error.type", "invalid_authentication_error"),
    "dashscope": (401, "error.code", "invalid_api_key"),
    "zai": (401, "error.code", "1001"),
    "perplexity": (401, "error.code", 401),
    "cerebras": (401, "code", "wrong_api_key"),
    DEPLOYMENTS: (401, "error.code", "401"),
    "together": (401, "error.code", "invalid_api_key"),
    "huggingface": (401, "error", "Invalid username"),
}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("key", ["", "demo-bad"])
def test_a_wrong_key_gets_the_hosts_own_answer_and_local_servers_want_none(simulator, name, key):
    seen = post(simulator, name, key=key)
    if HOSTS[name].key == "none":
        assert seen.status == 200 and name not in WRONG_KEY
        return
    status, path, words = WRONG_KEY[name]
    assert seen.status == status
    found = json.loads(seen.body)
    for step in path.split("."):
        found = found[step]
    assert found == words or str(words) in str(found)


def test_a_deployments_key_is_no_bearer_and_its_version_is_needed(simulator):
    body = json.dumps({"model": "ignored", "messages": HI}).encode()
    where = address(DEPLOYMENTS, "/chat/completions", "my-gpt")
    bearer = ask(simulator.url, "POST", where, [("Authorization", "Bearer demo-x")], body)
    assert bearer.status == 401
    right = ask(simulator.url, "POST", where, [("api-key", "demo-x")], body)
    assert json.loads(right.body)["model"] == "my-gpt"
    bare = ask(simulator.url, "POST", where.partition("?")[0], [("api-key", "demo-x")], body)
    assert bare.status == 404


@pytest.mark.parametrize("name", HOSTS)
def test_a_limit_and_a_spent_key_are_said_in_the_hosts_shape(simulator, name):
    limited = post(simulator, name, model="sim-429-after-7")
    assert limited.status == 429 and limited.header("retry-after") == "7"
    spent = post(simulator, name, model="sim-quota")
    assert spent.status == (402 if name in ("deepseek", "openrouter", "together", "huggingface")
                            else 429)  # fmt: skip
    said = json.loads(spent.body)
    assert said.get("error") or said.get("message")
    unknown = post(simulator, name, model="missing-model")
    assert unknown.status in (400, 404)


def test_openrouter_hides_the_reason_in_the_metadata(simulator):
    said = json.loads(post(simulator, "openrouter", model="sim-429").body)
    assert said["error"]["message"] == "Provider returned error" and said["user_id"]
    assert "Rate limit" in said["error"]["metadata"]["raw"]


@pytest.mark.parametrize(
    ("name", "begins", "is_done"),
    [
        ("groq", b"event: error\ndata: ", False),
        ("llamacpp", b"error: {", False),
        ("vllm", b'data: {"error"', False),
        ("openrouter", b'data: {"id":"gen-broken"', True),
    ],
)
def test_an_error_inside_a_200(simulator, name, begins, is_done):
    body = post(simulator, name, model="sim-error-event-2", stream=True).body
    assert begins in body
    assert body.endswith(b"data: [DONE]\n\n") == is_done


@pytest.mark.parametrize("name", HOSTS)
def test_lists_of_models_have_the_hosts_shape(simulator, name):
    seen = ask(simulator.url, "GET", f"/compatible/{name}/v1/models", [credential(name)])
    if name == DEPLOYMENTS:
        assert seen.status == 404
        return
    said = json.loads(seen.body)
    entries = said if name == "together" else said["data"]
    assert [entry["id"] for entry in entries] == list(HOSTS[name].models)
    assert ("object" in entries[0]) == (name != "openrouter")
    assert ("models" in said) == (name == "llamacpp")


@pytest.mark.parametrize("name", HOSTS)
def test_embeddings_where_there_are_any(simulator, name):
    seen = post(simulator, name, "/embeddings", input=["a", "b"])
    if not HOSTS[name].embedding:
        assert seen.status == 404
        return
    assert [len(each["embedding"]) for each in json.loads(seen.body)["data"]] == [1024, 1024]


def test_an_unknown_host_is_told_with_those_there_are(simulator):
    seen = post(simulator, "nonesuch")
    assert seen.status == 404 and b"openrouter" in seen.body
