"""A Responses answer of an upstream that speaks it: every byte as it came, under every cut."""

import json
from pathlib import Path

import pytest

from app.config.schema import Config
from app.wire.errors import GatewayError
from app.wire.kept import Kept, family_of, item_id, response_id
from app.wire.provider import Call, Key
from app.wire.signature_mark import mark
from app.wire.stream_start import Stage
from app.wire.upstream import UpstreamReply
from providers.openai import api as openai
from providers.openai import responses
from tests.calls import answering, counted_ids
from tests.fronts.test_responses_request import FRONT, RECORDED, asked_of, kept, user

STREAMS = sorted(RECORDED.glob("*.sse"))
ENDED = [path for path in STREAMS if path.name != "custom-tool-stream.sse"]
BODIES = ("text.json", "image-input.json", "background-completed.json", "compact.json")
DIGITS = "0123456789abcdef0123456789abcdef"


def copied(stream: bool = True, **more):
    body = {"model": "gpt-5", "input": "Hi", "stream": stream}
    return FRONT.copy(answering(asked=asked_of(body), **more), None)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name)
def test_a_stream_is_the_same_bytes_under_every_cut(path: Path):
    data = path.read_bytes()
    whole = copied()
    whole.labelled("text/event-stream")
    assert whole.feed(data) + whole.finish() == data
    bytewise = copied()
    bytewise.labelled("text/event-stream; charset=utf-8")
    assert b"".join(bytewise.feed(data[i : i + 1]) for i in range(len(data))) == data
    assert bytewise.finish() == b""
    assert (whole.usage, whole.refused) == (bytewise.usage, bytewise.refused)
    assert whole.refused == path.name.startswith("error-")


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name)
def test_a_stream_that_is_cut_before_its_end_is_an_error(path: Path):
    data = path.read_bytes()
    events = data.removesuffix(b"\n\n").split(b"\n\n")
    told = b"\n\n".join(events[: -2 if path.name.startswith("error-") else -1]) + b"\n\n"
    for cut in (told, data[: len(told) + 20]):
        front = copied()
        front.labelled("text/event-stream")
        assert front.feed(cut) == told
        with pytest.raises(GatewayError) as caught:
            front.finish(is_cut=True)
        assert caught.value.code == "upstream_cut"


def test_an_end_that_is_larger_than_what_is_remembered_is_an_end():
    event = {"type": "response.completed", "response": {"output": "x" * 400_000, "usage": {}}}
    data = b"event: response.completed\ndata: %b\n\n" % json.dumps(event).encode()
    front = copied()
    front.labelled("text/event-stream")
    out = b"".join(front.feed(data[i : i + 65536]) for i in range(0, len(data), 65536))
    assert out + front.finish() == data


@pytest.mark.parametrize("name", BODIES)
def test_a_whole_answer_is_the_same_bytes(name):
    data = (RECORDED / name).read_bytes()
    front = copied(stream=False)
    front.labelled("application/json")
    assert front.feed(data[:100]) + front.feed(data[100:]) + front.finish() == data


def test_an_answer_that_has_failed_is_handed_on():
    failed = b'{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"x"}}'
    front = copied(stream=False)
    front.labelled("application/json")
    assert front.feed(failed) + front.finish() == failed
    assert front.refused


@pytest.mark.parametrize("name", ["text-stream.sse", "text.json"])
def test_whose_key_has_made_an_answer_is_noted(name):
    data = (RECORDED / name).read_bytes()
    noted: list[str] = []
    front = copied(name.endswith(".sse"), remember=noted.append)
    front.labelled("text/event-stream" if name.endswith(".sse") else "application/json")
    out = front.feed(data)
    if out:
        assert front.opening(out) is Stage.SAID
    front.finish()
    [id] = noted
    assert id.startswith("resp_") and id.encode() in data


def test_a_stream_that_breaks_off_ends_with_the_next_numbers():
    data = (RECORDED / "text-stream.sse").read_bytes()
    begun = b"\n\n".join(data.split(b"\n\n")[:6]) + b"\n\n"
    asked = asked_of({"model": "gpt-5", "input": "Hi", "stream": True})
    front = FRONT.copy(answering(asked=asked), None)
    front.labelled("text/event-stream")
    front.opening(front.feed(begun))
    assert FRONT.fail is not None and FRONT.wake is not None
    assert FRONT.wake(asked) == b""
    error, failed, _ = FRONT.fail(asked, GatewayError(502, "Cut."), "r").split(b"\n\n")
    told = [json.loads(event.partition(b"data: ")[2]) for event in (error, failed)]
    assert [event["sequence_number"] for event in told] == [6, 7]
    assert told[0]["error"] == {
        "message": "Cut.",
        "type": "server_error",
        "param": None,
        "code": "server_error",
    }
    assert told[1]["response"]["status"] == "failed" and told[1]["response"]["id"] in begun.decode()


def test_ids_of_one_chain_have_a_part_in_common():
    ids = (
        "resp_0435eb6c2aa8e9eb0069e15ffeb3fc81959cd2d1e915a8c7ea",
        "resp_0435eb6c2aa8e9eb0069e160015f14819589a941eb8f14e5a5",
        "msg_0435eb6c2aa8e9eb0069e16003516081958ff28fb508f53045",
    )
    assert {family_of(id) for id in ids} == {"0435eb6c2aa8e9eb"}
    older = "resp_67cadb40a0708190ac2763c0b6960f6f"
    assert family_of(older) == older


# --- what goes up --------------------------------------------------------------------------------


def up(body: bytes, model: str = "gpt-5", kept_turns: dict[str, Kept] | None = None) -> bytes:
    from app.wire.front import Incoming

    asked = FRONT.glance(Incoming("/c/v1/responses", {}, "", {}, body))
    asked.kept = kept_turns or {}
    native = openai.PROVIDER.speaking("openai-responses")
    assert native is not None
    request = native.request(
        Call(
            config=Config(),
            asked=asked,
            chat=native.read(asked),
            key=Key("openai.api_keys", "1", "s3cret"),
            model=model,
            stream=False,
            headers={"x-codex-a": "1", "originator": "codex_exec", "x-other": "2"},
            now=1,
            new_id=counted_ids(),
        )
    )
    assert request.url == "https://api.openai.com/v1/responses"
    assert {name for name, _ in request.headers} >= {"x-codex-a", "originator"}
    assert "x-other" not in {name for name, _ in request.headers}
    assert isinstance(request.body, bytes)
    return request.body


@pytest.mark.parametrize("file", ["client-requests.json", "requests.json"])
def test_a_recorded_body_goes_up_as_it_is(file):
    for case in json.loads((RECORDED / file).read_text()).values():
        body = case.get("body")
        raw = json.dumps(body, indent=1).encode()
        ours = b"_gw" in raw or mark("c")[:12].encode() in raw
        if isinstance(body, dict) and "model" in body and not ours:
            assert up(raw, body["model"]) == raw


def test_an_alias_changes_one_value():
    body = b'{"tools":[{"model":"fast"}], "model" :  "fast","input":"model"}'
    assert up(body, "gpt-5") == body.replace(b'"fast","input"', b'"gpt-5","input"')


def test_what_only_the_gateway_understands_is_taken_out():
    items = [
        user(),
        {"type": "reasoning", "id": f"rs_gw{DIGITS}000", "encrypted_content": mark("c", "[]")},
        {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA"},
        {"type": "message", "id": f"msg_gw{DIGITS}001", "role": "assistant", "content": "Hello."},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": mark("s", "Ada asked.")},
    ]
    body = {"model": "gpt-5", "provider": "openai", "openai": {}, "input": items, "n": 1.50}
    told = json.loads(up(json.dumps(body).encode()))
    assert set(told) == {"model", "input", "n"}
    assert told["input"] == [
        items[0],
        items[2],
        {"type": "message", "role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Summary of the conversation so far:\nAda asked."},
    ]


def test_a_chain_of_the_gateways_is_put_in_front():
    said = {"type": "message", "id": item_id("msg", f"{1:032x}", 0), "role": "assistant"}
    turns = dict([kept(1, None, [user()], [said | {"content": "Hello."}])])
    for given in ("And?", [user("And?")]):
        body = {"model": "gpt-5", "previous_response_id": response_id(f"{1:032x}"), "input": given}
        told = json.loads(up(json.dumps(body).encode(), kept_turns=turns))
        assert set(told) == {"model", "input"}
        assert [item["role"] for item in told["input"]] == ["user", "assistant", "user"]
        assert all("id" not in item for item in told["input"])
    reference = {"type": "item_reference", "id": item_id("msg", f"{1:032x}", 0)}
    body = {"model": "gpt-5", "input": [user(), reference]}
    told = json.loads(up(json.dumps(body).encode(), kept_turns=turns))
    assert told["input"][1]["content"] == "Hello."


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": response_id(DIGITS), "input": "Hi"},
        {"input": [{"type": "item_reference", "id": f"msg_gw{DIGITS}000"}]},
    ],
)
def test_what_is_not_kept_any_more_is_refused(body):
    with pytest.raises(GatewayError) as caught:
        up(json.dumps({"model": "gpt-5"} | body).encode())
    assert caught.value.status == 400 and "not found" in caught.value.message


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"input": "Hi"}, None),
        ({"input": "Hi", "previous_response_id": "resp_1"}, "resp_1"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "msg_1"),
        ({"input": "Hi", "previous_response_id": response_id(DIGITS)}, None),
    ],
)
def test_an_earlier_answer_of_openais_leads_to_its_key(body, wanted):
    assert responses.earlier(asked_of({"model": "gpt-5"} | body)) == wanted


def test_openais_refusals_are_handed_on_with_their_status():
    native = openai.PROVIDER.speaking("openai-responses")
    assert native is not None and native.read_error is not None
    for path in RECORDED.glob("error-*.json"):
        data = path.read_bytes()
        status = int(path.name.split("-")[1])
        error = native.read_error(UpstreamReply(status, {}, data))
        assert FRONT.error_body(error, "r") == data
        if status != 401:
            assert FRONT.error_status(error) == status
