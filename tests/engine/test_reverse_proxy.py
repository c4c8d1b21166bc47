"""One key of a forwarded call fails, another serves it: which failures, which calls, how often."""

import asyncio
import json

import pytest

from app.engine.forward_call import ForwardCall
from app.engine.reverse_proxy import ReverseProxy
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from tests.calls import DIRECTORY
from tests.engine.fakes import CUT, FakeResponse
from tests.engine.test_failover import JSON, SILENCE, Bench, good, refusal


class ForwardSink:
    def __init__(self):
        self.started, self.status, self.headers, self.body = False, 0, [], b""
        self.ended = self.aborted = False

    async def start(self, status, headers, has_body):
        self.started, self.status, self.headers = True, status, headers

    async def send(self, data):
        self.body += data

    async def end(self):
        self.ended = True

    def abort(self):
        self.aborted = True


class ForwardBench(Bench):
    def __init__(self, answers, **more):
        super().__init__(answers, **more)
        self.reverse_proxy = ReverseProxy(self.config, self.clients, self.pool, self.log)
        self.sink = ForwardSink()

    def move_to_another_worker(self, later=0.0):
        super().move_to_another_worker(later)
        self.reverse_proxy.pool = self.pool

    async def ask(self, headers=(), pieces=(b'{"model":"m"}',), length=-1, path="embeddings"):
        (rule,) = (rule for rule in DIRECTORY.forwards if rule.prefix == "/v1/")

        async def body():
            for piece in pieces:
                yield piece

        call = ForwardCall(
            rule=rule,
            method="POST" if pieces else "GET",
            path=path,
            query="",
            headers=list(headers),
            body=body() if pieces else None,
            length=sum(map(len, pieces)) if length == -1 else length,
            public="http://gw",
            record=CallRecord(request_id="r", route="t"),
        )
        await self.reverse_proxy.run(call, self.sink)


def forwarded():
    return FakeResponse(200, JSON, [b'{"data":', b"[]}"])


def test_a_path_that_is_not_sent_is_refused_and_no_failure_of_the_upstream():
    bench = ForwardBench({"a": forwarded})
    error = bench.fail(path="../dashboard")
    assert error.code == "bad_path" and not bench.used
    assert bench.record.outcome == "refused" and bench.record.attempts == 0
    assert ("x-attempts", "0") in error.headers


@pytest.mark.parametrize("pieces", [(), (b'{"model":"m"}',), (b'{"mo', b'del":"m"}')])
@pytest.mark.parametrize("status", [401, 402, 403, 429, 500, 503])
def test_a_forward_that_can_be_repeated_is_sent_with_another_key(status, pieces):
    bench = ForwardBench({"bad": lambda: refusal(status), "good": forwarded})
    for _ in range(30):
        bench.pool.reset("openai.api_keys", "bad")
        bench.sink = ForwardSink()
        asyncio.run(bench.ask(pieces=pieces))
        assert bench.sink.body == b'{"data":[]}' and bench.sink.ended
        if bench.record.attempts == 2:
            break
    assert bench.used[-2:] == ["bad", "good"]
    assert ("x-attempts", "2") in bench.sink.headers and ("x-auth-id", "good") in bench.sink.headers
    sent = [request.body for request in bench.clients.requests[-2:]]
    assert sent[0] == sent[1] == (b"".join(pieces) or None)


def test_a_forward_that_no_key_can_serve_gets_the_upstreams_own_refusal():
    bench = ForwardBench({"a": lambda: refusal(401, "mine"), "b": lambda: refusal(429, "later")})
    asyncio.run(bench.ask())
    assert bench.sink.status == 429 and json.loads(bench.sink.body)["error"]["code"] == "later"
    assert len(bench.used) == 2 and bench.sink.ended


@pytest.mark.parametrize("length", [None, 2 * 1024 * 1024])
def test_a_body_of_unknown_length_or_a_large_one_goes_once(length):
    pieces = (b"x" * 1024,) * (2048 if length else 3)
    bench = ForwardBench({"a": lambda: refusal(429), "b": lambda: refusal(429)})
    asyncio.run(bench.ask(pieces=pieces, length=length))
    assert bench.sink.status == 429 and len(bench.used) == 1


@pytest.mark.parametrize(
    "bound", [[("x-auth-id", "a")], [("authorization", "Bearer a")]], ids=["named", "own"]
)
def test_a_forward_with_a_named_or_own_key_goes_once(bound):
    bench = ForwardBench({"a": lambda: refusal(429), "b": forwarded})
    asyncio.run(bench.ask(headers=bound))
    assert bench.sink.status == 429 and bench.used == ["a"]


def test_a_forward_when_all_rest_is_told_at_once():
    bench = ForwardBench({"a": lambda: refusal(429, headers=[("retry-after", "7")])})
    asyncio.run(bench.ask())
    bench.sink = ForwardSink()
    with pytest.raises(GatewayError) as caught:
        asyncio.run(bench.ask())
    assert caught.value.code == "all_keys_cooling" and len(bench.used) == 1
    bench.answers["a"] = forwarded
    bench.sink = ForwardSink()
    asyncio.run(bench.ask(pieces=(b'{"model":"other"}',)))  # the limit was that model's
    assert bench.sink.status == 200


def test_a_forward_and_a_chat_share_what_they_learn():
    bench = ForwardBench({"a": lambda: refusal(429, headers=[("retry-after", "7")])})
    asyncio.run(bench.ask(path="chat/completions"))
    chat = Bench({"a": good})
    chat.pool = chat.exchange.pool = bench.pool
    assert chat.fail().code == "all_keys_cooling" and not chat.used


def test_a_forward_cut_after_its_first_byte_is_not_repeated():
    bench = ForwardBench({"a": lambda: FakeResponse(200, JSON, [b"{", CUT]), "b": forwarded})
    bench.pool.disable("openai.api_keys", "b")
    asyncio.run(bench.ask())
    assert bench.sink.aborted and len(bench.used) == 1


def test_a_forward_that_the_client_had_to_send_again_counts_twice():
    bench = ForwardBench({"a": forwarded})

    def answer(request):
        request.resent = 1
        return forwarded()

    bench.clients.answer = answer
    asyncio.run(bench.ask())
    assert ("x-attempts", "2") in bench.sink.headers and bench.record.attempts == 2


def test_a_forward_too_asks_one_more_key_after_an_upstream_that_takes_no_connection():
    late = SILENCE["no connection in time"]
    bench = ForwardBench({str(n): late for n in range(5)})
    with pytest.raises(GatewayError):
        asyncio.run(bench.ask())
    assert len(bench.used) == 2


ASKS = b'{"model":"m","stream":true}'


def told(request) -> bool:
    return b"include_usage" in request.body


def test_a_stream_is_asked_for_usage_that_the_caller_does_not_see():
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]%b}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    pieces = [chunk % b',"usage":null', usage[:20], usage[20:] + b"data: [DONE]\n\n"]
    bench = ForwardBench({"good": lambda: FakeResponse(pieces=pieces)}, keys=["good"])
    asyncio.run(bench.ask(pieces=[ASKS], path="chat/completions"))
    assert bench.sink.body == chunk % b"" + b"data: [DONE]\n\n" and bench.sink.ended
    assert (bench.record.prompt_tokens, bench.record.completion_tokens) == (3, 4)
    assert bench.record.counted == "told" and told(bench.clients.requests[0])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"model":"m","stream":true,"stream_options":null}', "chat/completions"),
        (b'{"model":"m","stream":false}', "chat/completions"),
        (b'{"model":"m"}', "chat/completions"),
        (b'{"model":"m","messages":["\\"stream\\":true"]}', "chat/completions"),
        (b'["stream"]', "chat/completions"),
        (b'{"stream":tru', "chat/completions"),
        (ASKS, "responses"),
    ],
)
def test_what_is_no_silent_chat_stream_goes_on_as_it_came(body, path):
    bench = ForwardBench({"good": good}, keys=["good"])
    asyncio.run(bench.ask(pieces=[body], path=path))
    assert [request.body for request in bench.clients.requests] == [body]


def test_a_callers_own_key_is_asked_for_nothing_more():
    bench = ForwardBench({"good": good, "sk-of-the-caller": good}, keys=["good"])
    headers = [("Authorization", "Bearer sk-of-the-caller")]
    asyncio.run(bench.ask(headers, pieces=[ASKS], path="chat/completions"))
    assert not isinstance(bench.clients.requests[0].body, bytes)


def test_an_upstream_that_takes_no_stream_options_is_asked_once_more_without():
    def refused():
        body = b'{"error":{"message":"Unrecognized request argument: stream_options"}}'
        return FakeResponse(400, JSON, [body])

    answers = [refused(), good()]
    bench = ForwardBench({"good": answers}, keys=["good"])
    asyncio.run(bench.ask(pieces=[ASKS], path="chat/completions"))
    assert bench.sink.status == 200 and bench.record.attempts == 2
    assert list(map(told, bench.clients.requests)) == [True, False]
    assert bench.record.counted == "estimated"
