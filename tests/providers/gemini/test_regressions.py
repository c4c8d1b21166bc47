"""What the Go project got wrong about Gemini, one test for each."""

import json

import pytest

from app.config.schema import GoogleGemini
from app.wire.errors import GatewayError
from app.wire.events import Finish, Reasoning, Refusal, Text, ToolCall, Usage
from app.wire.provider import Key
from app.wire.upstream import UpstreamReply
from providers.gemini.api import FORWARDS, POOL, PROVIDER
from tests.providers.gemini.calls import RECORDED, chunk, decode, make_call, sent, sse, user


def array(*objects: object, indent: int | None = 2) -> bytes:
    return json.dumps(list(objects), indent=indent).encode()


@pytest.mark.parametrize("indent", [None, 0, 2, 4])
def test_text_does_not_depend_on_the_indentation(indent: int | None) -> None:
    data = array(chunk({"text": "a"}), chunk({"text": "b"}, finish="STOP"), indent=indent)
    assert [event for event in decode(data) if isinstance(event, Text)] == [Text("a"), Text("b")]


def test_json_escapes_are_decoded_once() -> None:
    text = 'line\n"quoted" \\ é \u2028 \U0001f600'
    assert decode(array(chunk({"text": text}, finish="STOP")))[1] == Text(text)
    assert decode(sse(chunk({"text": text}, finish="STOP")))[1] == Text(text)


def test_a_text_followed_by_another_member_is_not_left_with_a_quote() -> None:
    part = {"text": "answer", "thoughtSignature": "c2ln"}
    assert decode(array(chunk(part, finish="STOP")))[1] == Text("answer")


def test_thoughts_are_not_told_as_the_answer() -> None:
    events = decode((RECORDED / "array-thoughts.json").read_bytes())
    assert "".join(event.text for event in events if isinstance(event, Text)) == "Scoop"
    assert any(isinstance(event, Reasoning) for event in events)


@pytest.mark.parametrize(
    "name", ["error-400-api-key.json", "error-404-model.json", "error-429-quota.json"]
)
def test_an_error_is_never_an_empty_answer(name: str) -> None:
    body = (RECORDED / name).read_bytes()
    status = json.loads(body)["error"]["code"]
    assert PROVIDER.read_error(UpstreamReply(status, {}, body)).status in (401, 404, 429)
    with pytest.raises(GatewayError):
        decode(body)


def test_the_last_line_counts_without_its_newline() -> None:
    data = (RECORDED / "sse-text.sse").read_bytes()
    for cut in (1, 2, 3, 4):
        assert decode(data[:-cut]) == decode(data)


def test_calls_ending_usage_and_blocked_prompts_are_not_ignored() -> None:
    events = decode((RECORDED / "sse-tool-call.sse").read_bytes())
    assert [type(event) for event in events[1:]] == [ToolCall, Finish, Usage]
    blocked = decode(sse({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert blocked[1:] == [Refusal("blocked: SAFETY"), Finish("content_filter")]


def test_the_whole_conversation_and_its_settings_reach_the_upstream() -> None:
    body = user(
        temperature=0,
        top_p=0.5,
        stop="x",
        tools=[{"type": "function", "function": {"name": "f"}}],
    )
    body["messages"] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    out = sent(body)
    assert set(out) == {"contents", "systemInstruction", "generationConfig", "tools"}
    assert out["generationConfig"] == {"temperature": 0, "topP": 0.5, "stopSequences": ["x"]}
    assert out["contents"][0]["parts"] == [{"text": "a"}, {"text": "b"}]


def test_the_key_is_in_no_url() -> None:
    for make, native, body in (
        (PROVIDER.request, False, user()),
        (PROVIDER.native.request, True, {"contents": []}),
    ):
        request = make(make_call(body, native=native))
        assert "AIza" not in request.url
        assert "key=" not in request.url


def test_an_empty_version_of_a_key_makes_no_empty_segment() -> None:
    url = PROVIDER.request(make_call(user(), key=Key(POOL, "1", "k", {"version": ""}))).url
    assert "//models" not in url
    assert "/v1beta/models/" in url


def test_native_media_and_instructions_are_not_mangled() -> None:
    body = {
        "contents": [
            {
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                    {"fileData": {"mimeType": "video/mp4", "fileUri": "files/x"}},
                ]
            }
        ],
        "systemInstruction": [{"parts": [{"text": "s"}]}],
        "model": "gemini-2.5-flash",
    }
    out = json.loads(PROVIDER.native.request(make_call(body, native=True)).body)  # type: ignore[arg-type]
    assert out == {
        "contents": body["contents"],
        "systemInstruction": {"parts": [{"text": "s"}]},
    }


def test_the_model_is_not_in_the_body() -> None:
    assert "model" not in sent(user())
    request = PROVIDER.native.request(make_call({"contents": [], "model": "m"}, native=True))
    assert request.body == b'{"contents":[]}'


def test_the_forward_takes_keys_from_headers_and_keeps_the_others() -> None:
    rule = FORWARDS[-1]
    assert rule.credential_headers == ("x-goog-api-key", "authorization")
    assert rule.private_headers == ()


def test_the_default_model_is_a_current_one() -> None:
    assert GoogleGemini().model != "gemini-pro"
    assert "/models/gemini-2.5-flash:" in PROVIDER.request(make_call(user() | {"model": None})).url
