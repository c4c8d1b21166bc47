"""Recorded OpenAI-style answers through decoder and front: errors and cuts keep what was said."""

import pytest

from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.stream import DONE, ChatStream
from app.wire.errors import GatewayError
from tests import openai_types
from tests.calls import answering
from tests.providers.openai.chat_answers import RECORDINGS, fresh

ERRORS = {
    "groq-error-event.sse": "We",
    "openrouter-error-in-stream.sse": "We need",
    "llamacpp-error-line.sse": "Okay",
}
N = {"chat-stream-n3.sse": 3}
# They hold members of their own upstream, which are passed on: sources, thoughts to give back.
EXTENDED = {
    "openrouter-claude-thinking-tool.sse",
    "perplexity-chat.json",
    "perplexity-citations.sse",
}
PLAIN = sorted(set(RECORDINGS) - set(ERRORS) - EXTENDED)
STREAMS = sorted(n for n in RECORDINGS if n.endswith(".sse") and n not in ERRORS)


def renderer(kind, name):
    body = {"stream": True, "stream_options": {"include_usage": True}}
    return kind(answering(body=body), fresh(N.get(name, 1)))


@pytest.mark.parametrize("name", PLAIN)
def test_every_recorded_answer_becomes_strictly_openais_chunks(name):
    front = renderer(ChatStream, name)
    out = front.feed(RECORDINGS[name]) + front.finish()
    assert out.endswith(DONE)
    chunks = openai_types.chunks_of(out)
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert sum(reason is not None for reason in reasons) == N.get(name, 1)
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("name", PLAIN)
def test_every_recorded_answer_becomes_strictly_openais_completion(name):
    front = renderer(Completion, name)
    assert front.feed(RECORDINGS[name]) == b""
    answer = openai_types.completion(front.finish())
    assert len(answer.choices) == N.get(name, 1)


@pytest.mark.parametrize("kind", [ChatStream, Completion])
@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("openrouter-claude-thinking-tool.sse", b'"thinking_blocks":[{'),
        ("perplexity-chat.json", b'"citations":["https://study.com/'),
        ("perplexity-chat.json", b'"search_results":[{'),
        ("perplexity-citations.sse", b'"citations":["https://populationstat.com/'),
    ],
)
def test_members_of_an_upstream_are_passed_on_once(name, member, kind):
    front = renderer(kind, name)
    out = front.feed(RECORDINGS[name]) + front.finish()
    assert out.count(member) == 1


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_inside_a_stream_comes_after_what_was_said(name, size):
    data = RECORDINGS[name]
    front = renderer(ChatStream, name)
    out = b""
    with pytest.raises(GatewayError) as caught:
        for at in range(0, len(data), size):
            out += front.feed(data[at : at + size])
        out += front.finish()
    assert ERRORS[name].split()[0].encode() in out + caught.value.said
    assert b'"finish_reason":"' not in out + caught.value.said


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_inside_a_stream_makes_no_completion(name):
    front = renderer(Completion, name)
    with pytest.raises(GatewayError) as caught:
        front.feed(RECORDINGS[name])
        front.finish()
    assert caught.value.code in ("tool_use_failed", "400", "upstream_error")


@pytest.mark.parametrize("kind", [ChatStream, Completion])
@pytest.mark.parametrize("name", STREAMS)
def test_a_broken_connection_in_the_middle_is_a_cut(name, kind):
    data = RECORDINGS[name]
    end = data.index(b"\n\n", data.index(b'"choices":[{')) + 2
    front = renderer(kind, name)
    front.feed(data[:end])
    with pytest.raises(GatewayError) as caught:
        front.finish(is_cut=True)
    assert caught.value.code == "upstream_cut"
