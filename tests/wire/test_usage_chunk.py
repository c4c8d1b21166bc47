"""Usage that was asked for on behalf of a caller is taken out again, wherever the stream is cut."""

from app.wire.usage_chunk import UsageCutter, asking, without_usage

CHUNKS = [
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a ,\\"usage\\":null b"}}]%b}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]%b}\n\n',
]
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
PLAIN = b"".join(chunk % b"" for chunk in CHUNKS) + b": ping\n\n" + DONE
TOLD = b"".join(chunk % b',"usage":null' for chunk in CHUNKS) + b": ping\n\n" + USAGE + DONE


def cut(pieces) -> bytes:
    cutter = UsageCutter()
    return b"".join([*map(cutter.feed, pieces), cutter.finish()])


def test_every_cut_gives_the_stream_that_was_asked_for():
    for at in range(len(TOLD) + 1):
        assert cut([TOLD[:at], TOLD[at:]]) == PLAIN
    assert cut(TOLD[at : at + 1] for at in range(len(TOLD))) == PLAIN


def test_lines_may_end_in_both_ways():
    assert cut([TOLD.replace(b"\n", b"\r\n")]) == PLAIN.replace(b"\n", b"\r\n")


def test_usage_beside_choices_stays():
    both = b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}\n\n'
    assert without_usage(both + USAGE) == both == cut([both, USAGE])


def test_what_never_ends_is_not_held_for_ever():
    cutter = UsageCutter()
    out = cutter.feed(b"data: " + b"x" * 300_000)
    assert len(out) == 300_006


def test_what_is_left_of_a_cut_stream_is_sent():
    assert cut([b"data: one\n\ndata: tw"]) == b"data: one\n\ndata: tw"


def test_a_body_asks_in_its_first_member():
    assert asking(b' {"stream":true}') == (
        b' {"stream_options":{"include_usage":true},"stream":true}'
    )
