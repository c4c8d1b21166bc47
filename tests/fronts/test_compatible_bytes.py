"""Recorded answers of OpenAI-compatible upstreams, handed on byte for byte under every split."""

import json

import pytest

from app.fronts.openai_chat.passthrough import Passthrough, Whole
from app.wire.errors import GatewayError
from tests.calls import answering
from tests.fronts.test_openai_chat import passthrough, said, through
from tests.providers.openai.chat_answers import DONE
from tests.providers.openai.test_decode import EXPECTED
from tests.recorded import recorded

FOLDER = recorded("openai-compatible")
RESPONSES = json.loads((FOLDER / "responses.json").read_text("utf-8"))
STREAMS = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.sse"))}
BODIES = {
    name: (FOLDER / name).read_bytes()
    for name in ("gemini-compat-tool.json", "openrouter-leading-space.json", "perplexity-chat.json")
}
TOLD = {
    "groq-error-event.sse": (400, "tool_use_failed", "Tool call validation failed"),
    "openrouter-error-in-stream.sse": (400, "400", "Token limit reached"),
    "llamacpp-error-line.sse": (502, "upstream_error", "failed to decode"),
}
# It is a line that OpenAI's clients skip: the error is told to them besides.
LINE = "llamacpp-error-line.sse"
WHOLE = sorted(set(STREAMS) - set(TOLD))


def begun(name):
    """The renderer and the bytes that it has given out for the first event with a choice."""
    data = STREAMS[name]
    end = data.index(b"\n\n", data.index(b'"choices":[{')) + 2
    renderer = passthrough(content_type(name))
    out = renderer.feed(data[:end])
    renderer.opening(out)
    return renderer, out, data[end:]


def content_type(name):
    return RESPONSES[name]["headers"]["content-type"]


def counts(usage):
    return usage and [
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
    ]


# Every place of the large ones takes seconds.
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("name", WHOLE)
def test_a_recorded_stream_passes_untouched_under_every_two_way_split(name, step):
    data, told = STREAMS[name], answering()
    for at in range(0, len(data) + 1, step if len(data) > 4000 else 1):
        renderer = Passthrough(told)
        renderer.labelled(content_type(name))
        renderer.opening(said())  # what this costs is not paid for each split
        assert renderer.feed(data[:at]) + renderer.feed(data[at:]) + renderer.finish() == data
        assert not renderer.refused


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("name", WHOLE)
def test_a_recorded_stream_passes_untouched_and_its_tokens_are_counted(name, size):
    data = STREAMS[name]
    for stream in (data, data.replace(b"\n", b"\r\n")):
        renderer = passthrough(content_type(name))
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert through(renderer, pieces) == stream
        assert counts(renderer.usage) == EXPECTED[name]["usage"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_missing_done_is_added_where_the_choice_has_finished(name):
    data = STREAMS[name].replace(DONE, b"")
    renderer = passthrough(content_type(name))
    if name == "snowflake-no-finish.sse":  # [DONE] is all that says it is whole
        with pytest.raises(GatewayError) as caught:
            through(renderer, [data])
        assert caught.value.code == "upstream_cut"
    else:
        assert through(renderer, [data]) == data + DONE


@pytest.mark.parametrize("name", WHOLE)
def test_a_recorded_stream_cut_at_any_byte_is_an_error_and_never_half_an_event(name):
    data = STREAMS[name]
    for at in range(0, data.index(DONE), 11):
        renderer = passthrough(content_type(name))
        out = renderer.feed(data[:at])
        assert out == b"" or out.endswith(b"\n\n")
        assert data.startswith(out)
        with pytest.raises(GatewayError) as caught:
            renderer.finish(is_cut=True)
        assert caught.value.code == "upstream_cut"


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_an_error_inside_a_recorded_stream_is_known_and_told_once(name, size):
    renderer, out, rest = begun(name)
    for at in range(0, len(rest), size):
        out += renderer.feed(rest[at : at + size])
    out += renderer.finish()
    if name == LINE:
        assert out.startswith(STREAMS[name])
        told = out[len(STREAMS[name]) :]
        assert told.startswith(b"data: {") and told.endswith(b"}\n\n")
        error = json.loads(told[6:])["error"]
        assert TOLD[name][2] in error["message"] and set(error) == {
            *("message", "type", "param", "code")
        }
    else:
        assert out == STREAMS[name]
    assert DONE not in out.removesuffix(DONE)
    status, code, words = TOLD[name]
    assert renderer.refused
    assert (renderer.error.status, renderer.error.code) == (status, code)
    assert words in renderer.error.message


@pytest.mark.parametrize("name", TOLD)
def test_an_error_is_known_wherever_a_recorded_stream_is_cut_in_two(name):
    for at in range(0, len(STREAMS[name]), 3):
        renderer = passthrough(content_type(name))
        out = renderer.feed(STREAMS[name][:at])
        if out:
            renderer.opening(said())
        out += renderer.feed(STREAMS[name][at:])
        renderer.opening(said())
        out += renderer.finish()
        assert out.startswith(STREAMS[name]) and renderer.refused


@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_body_passes_untouched_under_every_split(name):
    body = BODIES[name]
    for at in range(len(body)):
        renderer = Whole(answering())
        renderer.labelled(RESPONSES[name]["headers"].get("content-type", "application/json"))
        assert renderer.feed(body[:at]) + renderer.feed(body[at:]) + renderer.finish() == body
        assert counts(renderer.usage) == EXPECTED[name]["usage"]
        assert not renderer.refused


# --- made up after what is documented ---------------------------------------------------------


FAILED_CHOICE = (
    b'{"index":0,%b:{"content":"x"},"finish_reason":"error",'
    b'"error":{"code":502,"message":"Provider disconnected"}}'
)


def test_a_choice_that_failed_is_an_error_in_streams_and_in_whole_answers():
    """As OpenRouter documents it: the error stands in the choice."""
    event = b'data: {"choices":[%b]}\n\n' % (FAILED_CHOICE % b'"delta"')
    renderer = passthrough()
    assert through(renderer, [said(), event, DONE]) == said() + event + DONE
    assert (renderer.refused, renderer.error.message) == (True, "Provider disconnected")
    body = b'{"choices":[%b]}' % (FAILED_CHOICE % b'"message"')
    renderer = Whole(answering())
    assert renderer.feed(body) + renderer.finish() == body
    assert (renderer.refused, renderer.error.status) == (True, 502)


def test_a_finish_reason_that_means_failure_is_an_error():
    """As Z.AI documents it."""
    event = said(b"", reason=b'"network_error"')
    renderer = passthrough()
    assert through(renderer, [said(), event, DONE]) == said() + event + DONE
    assert renderer.refused and "'network_error'" in renderer.error.message


@pytest.mark.parametrize(
    "pieces",
    [
        [DONE],
        [b"data: [DONE]"],
        [b": OPENROUTER PROCESSING\n\n", DONE],
        [said(b'"role":"assistant","content":""'), DONE],
        [said(b'"role":"assistant","content":""') + DONE],
        [b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', DONE],
    ],
)
def test_done_alone_is_no_answer(pieces):
    with pytest.raises(GatewayError) as caught:
        through(passthrough(), pieces)
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")


def test_a_stream_that_was_sent_on_in_part_ends_with_its_done():
    """Beyond what is held back nothing can be taken back."""
    comments = b": OPENROUTER PROCESSING\n\n" * 3000
    assert through(passthrough(), [comments, DONE]) == comments + DONE


@pytest.mark.parametrize(
    "error",
    [
        b'event: error\ndata: {"message":"no","code":429}\n\n',
        b'id: 7\nevent: error\ndata: {"error":{"message":"no","code":429}}\n\n',
        b'error: {"message":"no","code":429}\n\n',
        b'error: {"message":"no","code":429}',
    ],
)
@pytest.mark.parametrize("before", [b"", b": hi\n\n", said(b'"role":"assistant","content":""')])
def test_an_error_before_anything_was_said_is_raised_whatever_shares_its_read(before, error):
    for pieces in ([before + error], [before, error] if before else [error]):
        with pytest.raises(GatewayError) as caught:
            through(passthrough(), pieces)
        assert (caught.value.status, caught.value.message) == (429, "no")


def test_streams_begin_held():
    """`opening` may not be asked at all: the body may be over before its first event is."""
    assert isinstance(passthrough(), Passthrough)
    with pytest.raises(GatewayError):
        passthrough().finish()
