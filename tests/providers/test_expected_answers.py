"""Every recorded answer of Claude and Gemini as OpenAI's clients get it, beside it as a file.

expected/NAME.openai.jsonl has the chunks of a streamed recording, a line each; NAME.openai.json the
completion that the same answer folds into. All of it satisfies OpenAI's own types, strictly.
After a meant change: python -m tests.providers.test_expected_answers writes them anew.
"""

import sys
from pathlib import Path

import msgspec
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from app.fronts.openai_chat.completion import Completion
from app.fronts.openai_chat.stream import DONE, ChatStream
from app.wire.provider import Call, Key, Provider
from providers.claude import api as claude
from providers.gemini import api as gemini
from tests import openai_types
from tests.calls import answering, asked_of, call_of
from tests.recorded import recorded

HERE = Path(__file__).parent
FAMILIES: dict[str, tuple[Provider, str]] = {
    "claude": (claude.PROVIDER, "claude-asked"),
    "gemini": (gemini.PROVIDER, "gemini-asked"),
}
NO_ANSWERS = ("api-error", "web-", "requests", "error-", "models-", "embeddings-")
ANSWERS = [
    (family, path.name)
    for family in FAMILIES
    for path in sorted(recorded(family).iterdir())
    if path.suffix in (".sse", ".json") and not path.name.startswith(NO_ANSWERS)
]
# Google streams a JSON array where events are not asked for.
STREAMS = [(f, name) for f, name in ANSWERS if name.endswith(".sse") or name.startswith("array-")]


def call_for(family: str, stream: bool) -> tuple[Provider, Call]:
    provider, model = FAMILIES[family]
    body = msgspec.json.encode(
        {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    )
    ids = iter(range(1, 1000))
    return provider, call_of(
        provider,
        body,
        key=Key(provider.pool, "10001", "a-key-of-the-pool"),
        new_id=lambda: f"{next(ids):024x}{0:08x}",
    )


def render(family: str, name: str, *pieces: bytes, folded: bool) -> bytes:
    provider, call = call_for(family, (family, name) in STREAMS)
    told = answering(
        call,
        asked=asked_of({"stream": True, "stream_options": {"include_usage": True}}),
        session=provider.session(call),
    )
    renderer = (Completion if folded else ChatStream)(told, provider.decoder(call))
    return b"".join(renderer.feed(piece) for piece in pieces) + renderer.finish()


def lines_of(stream: bytes) -> bytes:
    assert stream.startswith(b"data: ") and stream.endswith(b"\n\n" + DONE)
    return stream[6:].removesuffix(DONE).replace(b"\n\ndata: ", b"\n").replace(b"\n\n", b"\n")


def expected(family: str, name: str, ending: str) -> Path:
    return HERE / family / "expected" / f"{name}.openai.{ending}"


def data_of(family: str, name: str) -> bytes:
    return (recorded(family) / name).read_bytes()


@pytest.mark.parametrize(("family", "name"), STREAMS)
def test_a_recorded_stream_becomes_the_expected_chunks(family, name):
    out = render(family, name, data_of(family, name), folded=False)
    assert lines_of(out) == expected(family, name, "jsonl").read_bytes()


@pytest.mark.parametrize(("family", "name"), ANSWERS)
def test_a_recorded_answer_folds_into_the_expected_completion(family, name):
    out = render(family, name, data_of(family, name), folded=True)
    assert msgspec.json.format(out) + b"\n" == expected(family, name, "json").read_bytes()


@pytest.mark.parametrize(("family", "name"), STREAMS)
def test_the_chunks_are_the_same_under_every_two_way_split_and_byte_by_byte(family, name):
    data = data_of(family, name)
    whole = render(family, name, data, folded=False)
    for at in range(1, len(data)):
        assert render(family, name, data[:at], data[at:], folded=False) == whole, at
    assert render(family, name, *(data[i : i + 1] for i in range(len(data))), folded=False) == whole


@pytest.mark.parametrize(("family", "name"), ANSWERS)
def test_the_completion_is_the_same_under_two_way_splits_and_byte_by_byte(family, name):
    data = data_of(family, name)
    whole = render(family, name, data, folded=True)
    for at in range(1, len(data), 7):  # the events are compared under every split elsewhere
        assert render(family, name, data[:at], data[at:], folded=True) == whole, at
    assert render(family, name, *(data[i : i + 1] for i in range(len(data))), folded=True) == whole


@pytest.mark.parametrize(("family", "name"), STREAMS)
def test_every_chunk_is_strictly_openais(family, name):
    chunks = openai_types.chunks_of(render(family, name, data_of(family, name), folded=False))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices].count(None) == len(chunks) - 2
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


@pytest.mark.parametrize(("family", "name"), ANSWERS)
def test_every_completion_is_strictly_openais(family, name):
    answer = openai_types.completion(render(family, name, data_of(family, name), folded=True))
    assert answer.choices[0].message.role == "assistant"
    usage = answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize(("family", "name"), STREAMS)
def test_openais_own_assembler_makes_of_the_chunks_what_we_make_of_the_answer(family, name):
    data = data_of(family, name)
    state = ChatCompletionStreamState()
    for chunk in openai_types.chunks_of(render(family, name, data, folded=False)):
        state.handle_chunk(chunk)
    theirs = state.get_final_completion()
    ours = openai_types.completion(render(family, name, data, folded=True))
    assert theirs.choices[0].finish_reason == ours.choices[0].finish_reason
    assert theirs.usage == ours.usage
    told, kept = theirs.choices[0].message, ours.choices[0].message
    assert (told.content or None, told.refusal) == (kept.content or None, kept.refusal)
    assert [(c.id, c.function.name, c.function.arguments) for c in told.tool_calls or []] == [
        (c.id, c.function.name, c.function.arguments)  # type: ignore[union-attr]
        for c in kept.tool_calls or []
    ]


def test_each_expectation_belongs_to_a_recording():
    wanted = {expected(*answer, "json") for answer in ANSWERS}
    wanted |= {expected(*answer, "jsonl") for answer in STREAMS}
    assert {
        path for family in FAMILIES for path in (HERE / family).glob("expected/*.openai.*")
    } == (wanted)


def write() -> None:
    for family, name in ANSWERS:
        data = data_of(family, name)
        out = msgspec.json.format(render(family, name, data, folded=True))
        expected(family, name, "json").write_bytes(out + b"\n")
    for family, name in STREAMS:
        out = lines_of(render(family, name, data_of(family, name), folded=False))
        expected(family, name, "jsonl").write_bytes(out)


if __name__ == "__main__":
    sys.exit(write())
