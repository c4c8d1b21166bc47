"""What is observed in a forwarded answer: its tokens, and whether its stream is whole."""

import asyncio
import gzip
import json
from contextlib import suppress

import pytest

from app.config.schema import Claude, Config, GeminiKeyEntry, GoogleGemini, KeyEntry, OpenAI
from app.engine.answer_observer import AnswerObserver
from app.engine.forward_call import ForwardCall
from app.engine.reverse_proxy import ReverseProxy
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from tests.calls import DIRECTORY
from tests.engine.fakes import CUT, FakeClients, FakeResponse, ListLog
from tests.recorded import recorded

SSE = [("content-type", "text/event-stream")]
JSON = [("content-type", "application/json")]
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


class Caller:
    """Takes what comes."""

    def __init__(self):
        self.started, self.sent, self.aborted = False, [], False

    async def start(self, status, headers, has_body):
        self.started = True

    async def send(self, data):
        self.sent.append(data)

    async def end(self):
        pass

    def abort(self):
        self.aborted = True


def forwarded(
    pieces, headers=SSE, path="chat/completions", prefix="/v1/", method="POST", leave_after=None
):
    """The log record of one raw call, and what its caller got, who leaves after some seconds."""
    keys = [KeyEntry(id="1", val="sk-pool")]
    config = Config(
        openai=OpenAI(api_keys=keys),
        claude=Claude(api_keys=keys),
        google_gemini=GoogleGemini(api_keys=[GeminiKeyEntry(id="1", val="g")]),
    )
    clients = FakeClients(lambda request: FakeResponse(200, headers, pieces))
    log, caller = ListLog(), Caller()
    body = b"x" * 400

    async def upload():
        yield body

    call = ForwardCall(
        rule=next(rule for rule in DIRECTORY.forwards if rule.prefix == prefix),
        method=method,
        path=path,
        query="",
        headers=[],
        body=upload(),
        length=len(body),
        public="http://gw",
        record=CallRecord(request_id="r", route="t"),
    )
    proxy = ReverseProxy(config, clients, KeyPool(config, SharedState()), log)
    with suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(proxy.run(call, caller), leave_after))
    (record,) = log.records
    return record, b"".join(caller.sent)


def tokens(record):
    return record.prompt_tokens, record.completion_tokens


MESSAGES = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":20,'
    b'"cache_read_input_tokens":5,"output_tokens":1}}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n' * 9000,
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":42}}\n\n',
)
RESPONSES = (
    b'event: response.created\ndata: {"response":{"usage":null}}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null,'
    b'"usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":2},"output_tokens":6,'
    b'"total_tokens":17}}}\n\n'
)
GEMINI = (
    b'data: {"candidates":[],"usageMetadata":{"promptTokenCount":9}}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}],'
    b'"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4,'
    b'"thoughtsTokenCount":3,"totalTokenCount":16}}\r\n\r\n'
)


@pytest.mark.parametrize(
    ("prefix", "path", "pieces", "counted"),
    [
        ("/v1/", "chat/completions", [TEXT, STOP, USAGE, DONE], (7, 3)),
        ("/v1/", "responses", [RESPONSES[:50], RESPONSES[50:]], (11, 6)),
        ("/claude/api/", "v1/messages", MESSAGES, (25, 42)),
        ("/gemini/", "v1beta/models/g:streamGenerateContent", [GEMINI], (9, 7)),
    ],
)
def test_the_tokens_of_a_raw_stream_are_those_it_tells(prefix, path, pieces, counted):
    record, got = forwarded(pieces, path=path, prefix=prefix)
    assert tokens(record) == counted
    assert got == b"".join(pieces)
    assert record.outcome == "complete"


@pytest.mark.parametrize(
    ("prefix", "path", "pieces", "counted"),
    [
        ("/v1/", "chat/completions", [TEXT, STOP, USAGE, DONE], (7, 3, "told")),
        ("/v1/", "responses", [RESPONSES], (11, 6, "told")),
        ("/claude/api/", "v1/messages", MESSAGES, (25, 42, "told")),
        ("/claude/api/", "v1/messages", MESSAGES[:2], (25, None, "estimated")),
        ("/gemini/", "v1beta/models/g:streamGenerateContent", [GEMINI], (9, 7, "estimated")),
        ("/v1/", "chat/completions", [TEXT * 9], (100, None, "estimated")),
    ],
)
def test_a_raw_stream_that_breaks_off_has_used_what_it_told_and_said(prefix, path, pieces, counted):
    record, got = forwarded([*pieces, CUT], path=path, prefix=prefix)
    prompt, answered, how = counted
    answered = len(got) // 200 if answered is None else answered
    assert (*tokens(record), record.counted) == (prompt, answered, how)


def test_a_raw_body_that_breaks_off_behind_its_counts_has_told_them():
    body = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
    record, _ = forwarded([body, CUT], JSON)
    assert (*tokens(record), record.counted) == (7, 3, "told")


@pytest.mark.parametrize(
    ("pieces", "outcome", "status", "counted"),
    [
        ([TEXT, STOP, USAGE, DONE, 60], "complete", 200, "told"),
        ([TEXT * 300, 60], "client_gone", 499, "estimated"),
    ],
)
def test_who_leaves_a_raw_stream_behind_done_has_all_of_it(pieces, outcome, status, counted):
    record, _ = forwarded(pieces, leave_after=0.1)
    assert (record.outcome, record.status, record.counted) == (outcome, status, counted)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_the_tokens_of_a_raw_body_are_those_it_tells(encoding):
    body = json.dumps(
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    ).encode()
    body = gzip.compress(body) if encoding == "gzip" else body
    record, got = forwarded([body[:30], body[30:]], [*JSON, ("content-encoding", encoding)])
    assert (tokens(record), got) == ((7, 3), body)


def test_what_tells_no_tokens_is_guessed_for_answers_of_models_only():
    record, _ = forwarded([TEXT * 10, STOP, DONE])
    assert record.prompt_tokens == 100 and record.completion_tokens > 0
    record, _ = forwarded([b"\x1b\x02" * 100], [*JSON, ("content-encoding", "br")])
    assert tokens(record) == (100, 50)
    for path, method in (("files", "POST"), ("chat/completions", "GET"), ("responses/r", "POST")):
        record, _ = forwarded([b'{"id":"f"}'], JSON, path=path, method=method)
        assert tokens(record) == (None, None)


def test_broken_compression_is_the_callers_to_find():
    record, got = forwarded([b"no gzip"], [*JSON, ("content-encoding", "gzip")])
    assert got == b"no gzip" and record.outcome == "complete"


@pytest.mark.parametrize(
    ("pieces", "outcome", "code"),
    [
        ([TEXT, STOP, DONE], "complete", ""),
        ([TEXT, STOP], "complete", ""),
        ([TEXT, DONE], "complete", ""),
        ([TEXT], "upstream_cut", "upstream_cut"),
        ([TEXT, STOP, CUT], "upstream_cut", "upstream_cut"),
        ([TEXT, b'data: {"error":{"message":"m","code":"c"}}\n\n', DONE], "upstream_error", "c"),
        (
            [TEXT, b"event: error\n", b'data: {"message":"m"}\n\n'],
            "upstream_error",
            "upstream_error",
        ),
        ([TEXT, b'error: {"error":{"message":"m"}}\n\n'], "upstream_error", "upstream_error"),
    ],
)
def test_a_raw_stream_is_logged_as_it_ended(pieces, outcome, code):
    record, got = forwarded(pieces)
    assert (record.outcome, record.code) == (outcome, code)
    assert got == b"".join(piece for piece in pieces if isinstance(piece, bytes))


@pytest.mark.parametrize(
    ("name", "is_told"),
    [("groq-error-event", True), ("llamacpp-error-line", True), ("snowflake-no-finish", False)],
)
def test_recorded_streams(name, is_told):
    stream = (recorded("openai-compatible") / f"{name}.sse").read_bytes()
    observer = AnswerObserver(dict(SSE), is_chat=True, max_bytes=1 << 20)
    for at in range(0, len(stream), 100):
        observer.add(stream[at : at + 100])
    told, is_whole = observer.ending()
    assert bool(told) == is_told
    assert is_whole != is_told


def test_a_failed_response_is_an_error():
    failed = b'{"type":"response.failed","response":{"error":{"code":"x"}}}'
    stream = b"event: response.failed\ndata: %b\n\n" % failed
    record, _ = forwarded([stream], path="responses")
    assert (record.outcome, record.code) == ("upstream_error", "x")


def test_the_model_is_found_at_the_start_of_an_answer():
    stream = AnswerObserver(dict(SSE), is_chat=True, max_bytes=1000)
    for piece in (b'data: {"id":"c","mod', b'el": "gpt-4o-mini","choices":[]}\n\n', TEXT):
        stream.add(piece)
    assert stream.model() == "gpt-4o-mini"
    none = AnswerObserver(dict(JSON), is_chat=False, max_bytes=1000)
    none.add(b'{"data":[]}')
    assert none.model() == ""
