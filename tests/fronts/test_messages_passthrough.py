"""Claude's own Messages answers pass byte for byte; only end, usage and errors are read."""

import pytest

from app.fronts.anthropic.passthrough import MessagesPassthrough, WholeBody
from app.wire.errors import GatewayError
from app.wire.stream_start import Stage
from tests.calls import answering, asked_of
from tests.recorded import recorded

STREAMS = sorted(path.name for path in recorded("claude").glob("api-*.sse"))
BODIES = sorted(
    path.name for path in recorded("claude").glob("api-*.json") if "error" not in path.name
)
OVERLOADED = (
    b'event: error\ndata: {"type":"error","error":{"details":null,"type":"overloaded_error",'
    b'"message":"Overloaded"},"request_id":"req_A"}\n\n'
)


def data_of(name):
    return (recorded("claude") / name).read_bytes()


def copier(label="text/event-stream; charset=utf-8", kind=MessagesPassthrough):
    renderer = kind(answering(asked=asked_of({"stream": True})))
    renderer.labelled(label)
    return renderer


def through(renderer, pieces):
    out = b"".join(renderer.feed(piece) for piece in pieces)
    return out + renderer.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_untouched_under_every_two_way_split(name):
    stream = data_of(name)
    for at in range(len(stream) + 1):
        assert through(copier(), [stream[:at], stream[at:]]) == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_stream_passes_untouched_byte_by_byte_and_in_whole_events(name):
    stream = data_of(name)
    renderer = copier()
    out = b""
    for at in range(len(stream)):
        told = renderer.feed(stream[at : at + 1])
        assert told == b"" or told.endswith(b"\n\n")
        out += told
    assert out + renderer.finish() == stream


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_before_its_message_stop_is_an_error(name):
    stream = data_of(name)
    end = stream.index(b"event: message_stop")
    for at in range(0, end + 1, 7):
        renderer = copier()
        renderer.feed(stream[:at])
        with pytest.raises(GatewayError) as caught:
            renderer.finish(is_cut=True)
        assert caught.value.code == "upstream_cut"


def test_a_connection_that_breaks_behind_message_stop_breaks_nothing():
    stream = data_of("api-text.sse")
    renderer = copier()
    assert renderer.feed(stream) + renderer.finish(is_cut=True) == stream


def test_a_last_event_without_its_newline_is_whole():
    stream = data_of("api-text.sse")
    assert through(copier(), [stream.rstrip()]) == stream.rstrip() + b"\n\n"


def test_the_words_message_stop_in_a_text_end_nothing():
    text = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"event: message_stop {\\"type\\":\\"message_stop\\"}"}}\n\n'
    )
    renderer = copier()
    renderer.feed(text)
    with pytest.raises(GatewayError):
        renderer.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_both_ends_of_a_stream_make_its_usage(name):
    stream = data_of(name)
    renderer = copier()
    events = stream.split(b"\n\n")
    for event in events[:-1]:
        out = renderer.feed(event + b"\n\n")
        renderer.opening(out)
    renderer.finish()
    assert renderer.usage.prompt_tokens > 0
    assert renderer.usage.completion_tokens > 0


def test_the_usage_of_the_prompt_is_known_however_long_the_stream():
    delta = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        b'{"type":"text_delta","text":"x"}}\n\n'
    )
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
        b'{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":1}}}\n\n'
    )
    end = (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":200}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    renderer = copier()
    renderer.opening(renderer.feed(start))
    for _ in range(200):
        renderer.feed(delta)
    renderer.feed(end)
    renderer.finish()
    usage = renderer.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (10, 3, 200)


def test_a_stream_opens_with_its_first_content():
    events = [event + b"\n\n" for event in data_of("api-thinking.sse").split(b"\n\n")[:-1]]
    renderer = copier()
    stages = [renderer.opening(renderer.feed(event)) for event in events[:4]]
    assert stages[0] is Stage.BEGUN and stages[-1] is Stage.SAID


def test_an_error_in_place_of_an_answer_is_raised_with_its_status():
    renderer = copier()
    with pytest.raises(GatewayError) as caught:
        renderer.opening(renderer.feed(OVERLOADED))
    assert (caught.value.status, caught.value.message) == (503, "Overloaded")


def test_an_error_in_the_middle_is_passed_on_and_ends_the_stream():
    stream = data_of("api-text.sse")
    begun = stream[: stream.index(b"event: content_block_stop")] + OVERLOADED
    renderer = copier()
    assert through(renderer, [begun]) == begun
    assert renderer.refused and renderer.error.status == 503


@pytest.mark.parametrize(
    ("kind", "status"),
    [("rate_limit_error", 429), ("api_error", 500), ("authentication_error", 401), ("new", 502)],
)
def test_a_json_error_in_place_of_a_stream_is_raised(kind, status):
    body = b'{"type":"error","error":{"type":"%b","message":"No"}}' % kind.encode()
    renderer = copier("application/json")
    with pytest.raises(GatewayError) as caught:
        renderer.feed(body)
    assert (caught.value.status, caught.value.message) == (status, "No")


@pytest.mark.parametrize("name", BODIES)
def test_a_recorded_body_passes_untouched(name):
    body = data_of(name)
    for at in range(0, len(body), 17):
        renderer = copier("application/json", WholeBody)
        assert through(renderer, [body[:at], body[at:]]) == body
        assert renderer.usage.completion_tokens > 0
        assert not renderer.refused


def test_a_body_that_is_an_error_is_raised():
    renderer = copier("application/json", WholeBody)
    renderer.feed(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
    with pytest.raises(GatewayError) as caught:
        renderer.finish()
    assert caught.value.status == 503


def test_a_body_cut_in_the_middle_is_no_answer():
    renderer = copier("application/json", WholeBody)
    renderer.feed(data_of(BODIES[0])[:-5])
    with pytest.raises(GatewayError):
        renderer.finish(is_cut=True)
