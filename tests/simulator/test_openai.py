"""The simulator's OpenAI wire where the SDKs do not look: exact bytes, headers, odd requests."""

import gzip
import json

import pytest

from app.simulator.recordings import DEFAULT, Recordings
from tests.simulator.wire import ask

KEY = ("Authorization", "Bearer sk-wire")
CHAT = "/openai/v1/chat/completions"


def post(simulator, body, path=CHAT, headers=(KEY,)):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(simulator.url, "POST", path, headers, data)


def ask_chat(simulator, **members):
    hi = [{"role": "user", "content": "hi"}]
    return post(simulator, {"model": "gpt-4o", "messages": hi, **members})


def chunks(seen):
    lines = seen.body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_chunks_have_the_members_of_the_real_ones_in_their_order(simulator):
    recorded = Recordings(DEFAULT).find("openai", "chat-stream-tools-parallel")
    real = json.loads(recorded.events()[0].removeprefix(b"data: "))
    made = chunks(ask_chat(simulator, stream=True))[0]
    assert list(made) == list(real)
    assert list(made["choices"][0]) == list(real["choices"][0])


def test_a_whole_answer_has_the_members_of_the_real_one(simulator):
    real = json.loads(Recordings(DEFAULT).find("openai", "chat-basic", False).body)
    made = json.loads(ask_chat(simulator).body)

    def shape(value):
        if isinstance(value, dict):
            return {name: shape(member) for name, member in value.items()}
        return [shape(each) for each in value] if isinstance(value, list) else None

    assert shape(made) == shape(real)


def test_usage_is_null_until_its_own_chunk(simulator):
    made = chunks(ask_chat(simulator, stream=True, stream_options={"include_usage": True}))
    assert [chunk["usage"] for chunk in made[:-1]] == [None] * (len(made) - 1)
    assert made[-1]["choices"] == [] and made[-1]["usage"]["total_tokens"] > 0
    assert all("usage" not in chunk for chunk in chunks(ask_chat(simulator, stream=True)))


def test_obfuscation_can_be_left_out(simulator):
    plain = ask_chat(simulator, stream=True, stream_options={"include_obfuscation": False})
    assert all("obfuscation" not in chunk for chunk in chunks(plain))
    assert all(chunk["obfuscation"] for chunk in chunks(ask_chat(simulator, stream=True)))


def test_a_refusal_is_streamed_as_refusal(simulator):
    made = chunks(ask_chat(simulator, model="sim-refusal", stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in made]
    assert deltas[0]["content"] is None
    assert "".join(d.get("refusal") or "" for d in deltas).startswith("I'm sorry")


@pytest.mark.parametrize("stream", [True, False])
def test_the_old_function_call_form_is_spoken(simulator, stream):
    functions = [
        {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}
    ]
    choice = {"name": "f"}
    seen = ask_chat(simulator, functions=functions, function_call=choice, stream=stream)
    if stream:
        deltas = [chunk["choices"][0]["delta"].get("function_call", {}) for chunk in chunks(seen)]
        said = {
            "name": deltas[1]["name"],
            "arguments": "".join(d.get("arguments", "") for d in deltas),
        }
    else:
        said = json.loads(seen.body)["choices"][0]["message"]["function_call"]
    assert (said["name"], json.loads(said["arguments"])) == ("f", {"a": "example"})


@pytest.mark.parametrize(
    ("members", "param", "words"),
    [
        ({"provider": "openai"}, None, "Unrecognized request argument supplied: provider"),
        ({"claude": {}}, None, "Unrecognized request argument supplied: claude"),
        ({"messages": None}, "messages", "Missing required parameter"),
        ({"messages": "hi"}, "messages", "Invalid type"),
        ({"messages": []}, "messages", "empty array"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "Invalid value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "tool_calls"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "Invalid type"),
        ({"model": None}, None, "you must provide a model"),
        ({"temperature": 3}, "temperature", "above maximum"),
        ({"temperature": "hot"}, "temperature", "Invalid type"),
        ({"n": 0}, "n", "below minimum"),
        ({"stream_options": {}}, "stream_options", "only allowed when 'stream'"),
    ],
)
def test_a_wrong_request_is_a_400_in_openais_words(simulator, members, param, words):
    seen = ask_chat(simulator, **members)
    error = json.loads(seen.body)["error"]
    assert (seen.status, error["param"]) == (400, param) and words in error["message"]


@pytest.mark.parametrize("body", [b"{", b"hello", b'{"a":}', b"\xff\xfe", b"[1]"])
def test_what_is_not_a_json_object_is_a_400(simulator, body):
    assert post(simulator, body).status == 400


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer sk-bad-key", "Basic abc"])
def test_a_wrong_key_is_a_401_with_a_challenge(simulator, authorization):
    headers = [("Authorization", authorization)] if authorization else []
    seen = ask(simulator.url, "GET", "/openai/v1/models", headers)
    assert seen.status == 401
    assert seen.header("www-authenticate") == 'Bearer realm="OpenAI API"'
    assert seen.header("x-ratelimit-limit-requests") is None


def test_private_and_public_headers_are_those_of_the_real_api(simulator):
    names = {name for name, _ in ask_chat(simulator).headers}
    assert {
        "x-request-id",
        "openai-organization",
        "openai-project",
        "openai-processing-ms",
    } <= names
    assert {"x-ratelimit-remaining-tokens", "cf-ray", "strict-transport-security"} <= names
    assert [name for name, _ in ask_chat(simulator).headers].count("set-cookie") == 2


def test_large_json_is_compressed_only_for_those_who_accept_it(simulator):
    def models(*headers):
        return ask(simulator.url, "GET", "/openai/v1/models", [KEY, *headers])

    packed = models(("Accept-Encoding", "gzip, deflate"))
    assert packed.header("content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == models().body
    assert models().header("content-encoding") is None


def test_file_contents_answer_ranges_etags_and_head(simulator):
    body = (
        b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n'
        b"0123456789\r\n--B--\r\n"
    )
    kind = ("Content-Type", "multipart/form-data; boundary=B")
    made = json.loads(post(simulator, body, "/openai/v1/files", [KEY, kind]).body)
    path = f"/openai/v1/files/{made['id']}/content"

    def get(method="GET", *headers):
        return ask(simulator.url, method, path, [KEY, *headers])

    whole = get()
    assert whole.body == b"0123456789" and whole.header("etag")
    part = get("GET", ("Range", "bytes=-3"))
    assert (part.status, part.body, part.header("content-range")) == (206, b"789", "bytes 7-9/10")
    assert get("GET", ("Range", "bytes=20-")).status == 416
    assert get("GET", ("If-None-Match", whole.header("etag"))).status == 304
    head = get("HEAD")
    assert (head.status, head.header("content-length"), head.body) == (200, "10", b"")


def test_a_route_answers_204(simulator):
    seen = ask(simulator.url, "DELETE", "/openai/v1/containers/c1", [KEY])
    assert (seen.status, seen.body, seen.header("content-length")) == (204, b"", None)


def test_an_echo_can_carry_hop_by_hop_headers(simulator):
    seen = ask(simulator.url, "GET", "/openai/v1/_echo/x?hop=1")
    assert seen.header("connection") == "keep-alive, x-private-hop"
    assert seen.header("x-private-hop") == "1" and json.loads(seen.body)["query"] == "hop=1"
