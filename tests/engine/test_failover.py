"""One key fails, another answers: which failures, how often, for whom, and until when."""

import asyncio
import json
import time

import pytest

from app.auth.caller import OPERATOR
from app.config.schema import (
    Claude,
    Config,
    GeminiKeyEntry,
    GoogleGemini,
    Holdback,
    KeyEntry,
    OpenAI,
    Timeouts,
)
from app.engine.call import ChatCall, Target
from app.engine.chat_call import Exchange
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from tests.calls import CHAT, DIRECTORY, asked_of
from tests.engine.fakes import CUT, FakeClients, FakeResponse, FakeSink, ListLog

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
ROLE = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
JSON = [("content-type", "application/json")]
REFUSED = GatewayError(502, "no", code="upstream_unreachable", outcome="upstream_unreachable")


def refusal(status, code="x", headers=()):
    body = json.dumps({"error": {"message": "no", "type": "t", "code": code}}).encode()
    return FakeResponse(status, [*JSON, *headers], [body])


def good():
    return FakeResponse(pieces=[EVENT, EVENT + DONE])


class Bench:
    """`answers` maps a key's value to what it gets: a response, a list of them, an exception."""

    def __init__(
        self,
        answers,
        keys=None,
        fallbacks=(),
        holdback=None,
        sink=None,
        claude_keys=("c",),
        gemini_keys=("g",),
        fallback_after=0,
        **timeouts,
    ):
        self.answers = answers
        names = keys or list(answers)
        self.config = Config(
            openai=OpenAI(
                api_url="http://openai",
                api_keys=[KeyEntry(id=name, val=name) for name in names],
            ),
            claude=Claude(
                api_url="http://claude",
                api_keys=[KeyEntry(id=name, val=name) for name in claude_keys],
            ),
            google_gemini=GoogleGemini(
                api_url="http://gemini",
                api_keys=[GeminiKeyEntry(id=name, val=name) for name in gemini_keys],
            ),
            fallback_after=fallback_after,
            stream_holdback=holdback or Holdback(),
            timeouts=Timeouts(**timeouts),
        )
        self.clients = FakeClients(self.answer)
        self.log, self.sink = ListLog(), sink or FakeSink()
        self.state = SharedState()
        self.pool = KeyPool(self.config, self.state)
        self.exchange = Exchange(self.config, self.clients, self.pool, self.log)
        self.ways = [Target(*DIRECTORY.choose(None, name)[:2], name) for name in fallbacks]
        self.used = []
        self.caller = OPERATOR

    def move_to_another_worker(self, later=0.0):
        """To one that knows what is in shared memory only, so many seconds later."""
        state = SharedState(self.state.handles)
        self.pool = KeyPool(self.config, state, lambda: time.time() + later)
        self.exchange = Exchange(self.config, self.clients, self.pool, self.log)

    def answer(self, request):
        headers = {name.lower(): value for name, value in request.headers}
        key = headers.get("authorization", "").removeprefix("Bearer ")
        key = key or headers.get("x-api-key") or headers.get("x-goog-api-key")
        self.used.append(key)
        answer = self.answers[key]
        if isinstance(answer, list):
            answer = answer.pop(0)
        return answer() if callable(answer) else answer

    async def ask(self, headers=None, stream=True, front=CHAT, **members):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        raw = json.dumps(body | members).encode()
        asked = asked_of(raw, front)
        provider, model, _ = DIRECTORY.choose(asked.provider, asked.model, asked)
        ask = ChatCall(
            target=Target(provider, model, asked.model),
            front=front,
            asked=asked,
            headers=headers or {},
            record=CallRecord(request_id="r", route="t"),
            fallbacks=self.ways,
            caller=self.caller,
        )
        await self.exchange.run(ask, self.sink)

    def run(self, **asked):
        asyncio.run(self.ask(**asked))
        return self.sink.body

    def fail(self, **asked):
        with pytest.raises(GatewayError) as caught:
            asyncio.run(self.ask(**asked))
        return caught.value

    @property
    def record(self):
        return self.log.records[-1]


FAILURES = {
    "401": lambda: refusal(401),
    "402": lambda: refusal(402),
    "403": lambda: refusal(403),
    "429": lambda: refusal(429),
    "quota": lambda: refusal(429, "insufficient_quota"),
    "500": lambda: refusal(500),
    "529": lambda: refusal(529),
    "challenge": lambda: FakeResponse(403, [("content-type", "text/html")], [b"<html>"]),
    "page": lambda: FakeResponse(200, [("content-type", "text/html")], [b"<html>"]),
    "no connection": lambda: REFUSED,
    "cut": lambda: FakeResponse(pieces=[CUT]),
    "cut in the first event": lambda: FakeResponse(pieces=[b'data: {"cho', CUT]),
    "an end without an answer": lambda: FakeResponse(pieces=[]),
    "an error as the first event": lambda: FakeResponse(
        pieces=[b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n']
    ),
    "silence": lambda: FakeResponse(pieces=[5, EVENT]),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_another_key_answers_unseen(failure):
    bench = Bench({"bad": FAILURES[failure], "good": good}, first_event=0.1)
    for _ in range(30):  # until chance has tried the bad one first
        bench.pool.reset("openai.api_keys", "bad")
        bench.sink = FakeSink()
        assert bench.run() == EVENT + EVENT + DONE
        if bench.record.attempts == 2:
            break
    assert bench.used[-2:] == ["bad", "good"]
    assert dict(bench.sink.headers)["x-attempts"] == "2"
    assert [v for n, v in bench.sink.headers if n == "x-auth-id"] == ["good"]
    (tried,) = bench.record.tried
    assert (tried.key_id, tried.next) == ("bad", "next") and bench.record.outcome == "complete"
    assert bench.record.bytes_out == len(EVENT + EVENT + DONE)
    assert all(response.closed for response in bench.clients.responses)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_what_any_key_would_say_is_returned_at_once(status):
    bench = Bench({"a": lambda: refusal(status), "b": lambda: refusal(status)})
    error = bench.fail()
    assert error.status == status and len(bench.used) == 1
    assert ("x-attempts", "1") in error.headers
    bench.fail()  # and no key rests for it
    assert len(bench.used) == 2


def test_49_dead_keys_of_50_are_tried_once_each_until_the_good_one():
    for word in (401, 500, 429):
        answers = {f"dead-{n}": (lambda status=word: refusal(status)) for n in range(49)}
        bench = Bench(answers | {"good": good})
        assert bench.run() == EVENT + EVENT + DONE
        assert len(bench.used) == len(set(bench.used)) and bench.used[-1] == "good"


def test_a_callers_own_key_is_never_replaced():
    bench = Bench({"mine": lambda: refusal(401), "pool": good}, keys=["pool"])
    assert bench.fail(headers={"authorization": "Bearer mine"}).status == 401
    assert bench.used == ["mine"]


@pytest.mark.parametrize("named", [{"headers": {"x-auth-id": "bad"}}, {"openai": {"index": "bad"}}])
def test_a_named_key_is_never_replaced(named):
    bench = Bench({"bad": lambda: refusal(429), "good": good})
    assert bench.fail(**named).status == 429
    assert bench.used == ["bad"]


def test_after_the_first_event_there_is_no_other_key():
    broken = [FakeResponse(pieces=[EVENT, CUT]), FakeResponse(pieces=[EVENT, CUT])]
    bench = Bench({"a": broken, "b": broken})
    body = bench.run()
    assert body.startswith(EVENT + b'data: {"error"') and b"[DONE]" not in body
    assert len(bench.used) == 1 and bench.record.outcome == "upstream_cut"


def test_a_comment_does_not_forbid_another_key():
    slow = FakeResponse(401, JSON, [0.2, b'{"error":{"message":"no"}}'])
    bench = Bench({"a": slow, "b": good}, keep_alive_comment=0.05)
    bench.pool.disable("openai.api_keys", "b")

    async def later():
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0.1)
        bench.pool.reset("openai.api_keys", "b")
        await asking

    asyncio.run(later())
    assert bench.sink.sent[0] == b": ping\n\n" and bench.sink.body.endswith(EVENT + EVENT + DONE)


def test_an_answer_that_is_not_streamed_may_break_anywhere():
    broken = FakeResponse(headers=JSON, pieces=[b'{"id":', CUT])
    whole = FakeResponse(headers=JSON, pieces=[b'{"id":1}'])
    bench = Bench({"a": [broken, whole], "b": [broken, whole]})
    bench.answers["b"] = bench.answers["a"]
    bench.run(stream=False)
    assert bench.sink.whole == b'{"id":1}' and len(bench.used) == 2


def test_the_total_bounds_all_attempts():
    answers = {str(n): (lambda: FakeResponse(401, JSON, [0.1, b"{}"])) for n in range(9)}
    bench = Bench(answers, total=0.25)
    assert bench.fail().status == 504
    assert len(bench.used) <= 3  # each takes 0.1 s


# Sent again.


@pytest.mark.parametrize("then", ["answers", "is lost again"])
def test_a_request_that_the_client_had_to_send_again_counts_twice(then):
    bench = Bench({"a": good, "b": good})
    first = []

    def answer(request):
        if not first:
            first.append(request)
            request.resent = 1
            return good() if then == "answers" else REFUSED
        return good()

    bench.clients.answer = answer
    assert bench.run() == EVENT + EVENT + DONE
    attempts = 2 if then == "answers" else 3
    assert bench.record.attempts == attempts
    assert dict(bench.sink.headers)["x-attempts"] == str(attempts)
    assert bench.record.tried[0].outcome == "connection lost"
    assert [one.next for one in bench.record.tried] == ["again", "next"][: attempts - 1]


# Silence.


SILENCE = {
    "from the start": lambda: FakeResponse(pieces=[5]),
    "after a beginning": lambda: FakeResponse(pieces=[ROLE, 5]),
    "no connection in time": lambda: GatewayError(
        504, "slow", code="upstream_timeout", outcome="upstream_timeout"
    ),
}


@pytest.mark.parametrize("kind", SILENCE)
def test_after_one_silent_key_one_more_is_asked_and_then_the_fallbacks(kind):
    silent = {str(n): SILENCE[kind] for n in range(5)}
    bench = Bench(
        silent | {"c": claude},
        keys=list(silent),
        fallbacks=["claude/claude-sonnet-4-5"],
        first_event=0.05,
        idle=0.05,
    )
    assert bench.run().endswith(DONE)
    assert len(bench.used) == 3 and bench.used[-1] == "c"
    assert [one.outcome for one in bench.record.tried] == ["upstream failed"] * 2


def test_without_fallbacks_a_silent_upstream_is_told_after_two_keys():
    silent = {str(n): SILENCE["from the start"] for n in range(5)}
    bench = Bench(silent, first_event=0.05)
    assert bench.fail().code == "upstream_timeout" and len(bench.used) == 2


def test_one_silent_key_is_answered_for_by_another():
    order = [FakeResponse(pieces=[5]), good()]
    bench = Bench({"a": order, "b": order, "d": order}, first_event=0.05)
    assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2


def test_of_several_refusals_the_caller_is_told_the_most_promising():
    bench = Bench(
        {
            "dead": lambda: refusal(401),
            "slow": lambda: refusal(429, headers=[("retry-after", "9")]),
            "soon": lambda: refusal(429, headers=[("retry-after", "3")]),
        }
    )
    error = bench.fail()
    assert (error.status, error.retry_after) == (429, 3.0) and len(bench.used) == 3
    assert ("x-attempts", "3") in error.headers


@pytest.mark.parametrize("status", [401, 402, 429])
def test_a_key_rests_as_long_as_its_refusal_says_whatever_the_status(status):
    bench = Bench({"a": lambda: refusal(status, headers=[("retry-after", "33")])})
    assert bench.fail().retry_after == 33.0
    assert 32 < bench.fail().retry_after <= 33 and bench.used == ["a"]


def test_all_resting_is_a_429_in_no_time_without_an_upstream_call():
    bench = Bench({"a": lambda: refusal(429, headers=[("retry-after", "7")])})
    bench.fail()
    bench.used.clear()
    began = time.monotonic()
    error = bench.fail()
    assert time.monotonic() - began < 5  # it does not wait for the key
    assert error.code == "all_keys_cooling" and 2 < error.retry_after <= 7
    assert not bench.used and ("x-attempts", "0") in error.headers
    assert bench.record.outcome == "all_keys_cooling"


def test_what_is_refused_before_it_is_sent_is_no_request_to_an_upstream():
    bench = Bench({}, claude_keys=["c"])
    error = bench.fail(model="claude/c", messages=[])
    assert error.status == 400 and ("x-attempts", "0") in error.headers
    assert bench.record.attempts == 0 and bench.record.outcome == "refused"


def test_a_fallback_that_cannot_say_the_request_is_not_counted_as_asked():
    bench = Bench({"a": lambda: refusal(500)}, claude_keys=["c"], fallbacks=["claude/c"])
    error = bench.fail(n=3)
    assert bench.used == ["a"] and ("x-attempts", "1") in error.headers


def test_an_error_of_our_own_making_says_nothing_about_the_key():
    bench = Bench({"a": lambda: refusal(401)})
    bench.fail()
    body = {"model": "claude/m", "messages": [{"role": "nobody", "content": 1}]}
    assert bench.fail(**body).status == 400
    assert bench.fail().code == "keys_refused"


def test_a_call_waits_for_a_key_that_has_its_hands_full():
    bench = Bench({"a": lambda: FakeResponse(pieces=[0.1, EVENT, DONE])}, first_event=5)
    entry = KeyEntry(id="a", val="a", max_concurrent=1)
    config = Config(openai=OpenAI(api_url="http://openai", api_keys=[entry]))
    bench.pool = bench.exchange.pool = KeyPool(config, SharedState())

    async def both():
        began = time.monotonic()
        await asyncio.gather(bench.ask(), bench.ask(), bench.ask())
        return time.monotonic() - began

    assert asyncio.run(both()) > 0.3
    assert [record.outcome for record in bench.log.records] == ["complete"] * 3


# Fallbacks.

CLAUDE_PIECES = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","type":'
    b'"message","role":"assistant","model":"claude-real","content":[],"usage":'
    b'{"input_tokens":3,"output_tokens":1}}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"hi"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":2}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
]


def claude():
    return FakeResponse(pieces=CLAUDE_PIECES)


def test_another_provider_answers_when_all_keys_are_spent_and_says_so():
    bench = Bench(
        {"a": lambda: refusal(429), "b": lambda: refusal(500), "c": claude},
        keys=["a", "b"],
        fallbacks=["claude/claude-sonnet-4-5"],
    )
    body = bench.run()
    assert body.endswith(DONE) and b'"content":"hi"' in body and b'"model":"claude-real"' in body
    assert dict(bench.sink.headers)["x-gateway-model"] == "claude/claude-sonnet-4-5"
    assert json.loads(bench.clients.requests[-1].body)["model"] == "claude-sonnet-4-5"
    assert (bench.record.provider, bench.record.attempts) == ("claude-api", 3)
    assert [one.next for one in bench.record.tried] == ["next", "next"]


def test_fallbacks_are_tried_in_their_order_and_the_first_error_is_told():
    bench = Bench(
        {"a": lambda: refusal(429, "first"), "c": lambda: refusal(529), "g": lambda: refusal(404)},
        keys=["a"],
        fallbacks=["claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash"],
    )
    error = bench.fail()
    assert error.code == "first" and bench.used == ["a", "c", "g"]


def test_a_fallback_that_cannot_say_the_request_is_passed_over():
    bench = Bench(
        {"a": lambda: refusal(429), "c": claude},
        keys=["a"],
        fallbacks=["gemini/gemini-2.5-flash", "claude/claude-sonnet-4-5"],
    )
    bench.answers["g"] = lambda: refusal(400)
    assert bench.run().endswith(DONE) and bench.used == ["a", "g", "c"]


TOO_LONG = {
    "OpenAI's code": {"message": "This model", "code": "context_length_exceeded"},
    "OpenAI's other code": {"message": "Invalid", "code": "string_above_max_length"},
    "vLLM": {"message": "This model's maximum context length is 4096 tokens.", "code": 400},
    "Mistral": {
        "message": "Prompt contains 99999 tokens and 0 draft tokens, too large for model with "
        "32768 maximum context length"
    },
    "xAI": {"message": "This model's maximum prompt length is 131072 but the request contains"},
    "Moonshot": {"message": "Invalid request: Your request exceeded model token limit: 8192"},
    "llama.cpp": {"message": "the request exceeds the available context size, try increasing it"},
    "Qwen": {"message": "Range of input length should be [1, 30720]"},
    "Cohere": {"message": "too many tokens: size limit exceeded by 100 tokens"},
    "GitHub": {"message": "Request body too large", "code": "tokens_limit_reached"},
}


@pytest.mark.parametrize("kind", TOO_LONG)
def test_what_is_too_long_for_a_model_goes_to_another_one_and_not_to_another_key(kind):
    body = json.dumps({"error": {"type": "invalid_request_error"} | TOO_LONG[kind]}).encode()
    bench = Bench(
        {"a": FakeResponse(400, JSON, [body]), "b": FakeResponse(400, JSON, [body]), "c": claude},
        keys=["a", "b"],
        fallbacks=["openai/m", "claude/claude-sonnet-4-5"],
    )
    assert bench.run().endswith(DONE)
    assert len(bench.used) == 2 and bench.used[-1] == "c"
    assert [(one.outcome, one.next) for one in bench.record.tried] == [("request refused", "next")]
    bench.ways, bench.sink = [], FakeSink()
    bench.answers |= {"a": FakeResponse(400, JSON, [body]), "b": FakeResponse(400, JSON, [body])}
    assert bench.fail().status == 400 and len(bench.used) == 3  # and no key rests for it


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("claude/x", "prompt is too long: 210000 tokens > 200000 maximum"),
        ("claude/x", "input length and `max_tokens` exceed context limit: 190000 + 20000"),
        ("gemini/x", "The input token count (1200000) exceeds the maximum number of tokens"),
        ("gemini/x", "The input token count exceeds the maximum number of tokens allowed 1048576."),
    ],
)
def test_every_familys_word_for_too_long_is_known(model, message):
    error = {"type": "invalid_request_error", "status": "INVALID_ARGUMENT", "message": message}
    body = json.dumps({"type": "error", "error": {"code": 400} | error}).encode()
    refused = FakeResponse(400, JSON, [body])
    bench = Bench({"c": refused, "g": refused, "a": good}, keys=["a"], fallbacks=["gpt-4.1"])
    assert bench.run(model=model) == EVENT + EVENT + DONE and bench.used[1:] == ["a"]


def test_an_error_that_opens_a_stream_may_say_too_long_as_well():
    event = b'data: {"error":{"message":"no","code":"context_length_exceeded"}}\n\n'
    bench = Bench({"a": FakeResponse(pieces=[event]), "c": claude}, ["a"], ["claude/x"])
    assert bench.run().endswith(DONE) and bench.used == ["a", "c"]


@pytest.mark.parametrize("bound", [{"x-auth-id": "a"}, {"authorization": "Bearer a"}])
def test_what_is_too_long_for_a_named_or_own_key_is_told(bound):
    bench = Bench({"a": lambda: refusal(400, "context_length_exceeded")}, ["a"], ["claude/x"])
    assert bench.fail(headers=bound).code == "context_length_exceeded" and bench.used == ["a"]


def test_if_it_is_too_long_for_all_the_first_is_told():
    body = b'{"error":{"type":"invalid_request_error","message":"prompt is too long"}}'
    long = {key: (lambda: FakeResponse(400, JSON, [body])) for key in "acg"}
    bench = Bench(long, ["a"], ["claude/x", "gemini/y", "claude/x"])
    assert bench.fail().status == 400 and bench.used == ["a", "c", "g"]


@pytest.mark.parametrize("status", [400, 404])
def test_a_request_that_is_wrong_has_no_fallback(status):
    bench = Bench({"a": lambda: refusal(status), "c": claude}, keys=["a"], fallbacks=["claude/x"])
    assert bench.fail().status == status and bench.used == ["a"]


@pytest.mark.parametrize(
    "bound", [{"headers": {"x-auth-id": "a"}}, {"headers": {"authorization": "Bearer a"}}]
)
def test_there_is_no_fallback_for_a_named_or_own_key(bound):
    bench = Bench({"a": lambda: refusal(429), "c": claude}, keys=["a"], fallbacks=["claude/x"])
    assert bench.fail(**bound).status == 429 and bench.used == ["a"]


def test_there_is_no_fallback_after_the_first_event():
    bench = Bench(
        {"a": FakeResponse(pieces=[EVENT, CUT]), "c": claude}, keys=["a"], fallbacks=["claude/x"]
    )
    assert bench.run().startswith(EVENT) and bench.used == ["a"]


def test_a_pool_without_keys_falls_back_as_well():
    bench = Bench({"c": claude}, keys=["a"], fallbacks=["claude/x"])
    bench.pool.drop("openai.api_keys", "a")
    assert bench.run().endswith(DONE) and bench.used == ["c"]


def test_openai_as_a_fallback_is_asked_for_its_own_model():
    bench = Bench({"c": lambda: refusal(529), "a": good}, keys=["a"], fallbacks=["gpt-4o"])
    assert bench.run(model="claude/claude-sonnet-4-5") == EVENT + EVENT + DONE
    assert json.loads(bench.clients.requests[-1].body)["model"] == "gpt-4o"


# Held back.


def test_a_stream_that_breaks_early_is_answered_by_another_key_unseen():
    broken = FakeResponse(pieces=[EVENT, EVENT, CUT])
    bench = Bench({"a": [broken, good], "b": []}, holdback=Holdback(tokens=5))
    bench.answers["b"] = bench.answers["a"]
    assert bench.run() == EVENT + EVENT + DONE and len(bench.used) == 2
    assert bench.record.outcome == "complete"


def test_what_is_held_is_sent_once_there_is_enough():
    pieces = [EVENT] * 4 + [CUT]
    bench = Bench({"a": FakeResponse(pieces=pieces), "b": good}, holdback=Holdback(tokens=3))
    bench.pool.disable("openai.api_keys", "b")
    body = bench.run()
    assert bench.sink.sent[:2] == [EVENT * 3, EVENT] and b'"code":"upstream_cut"' in body


def test_what_is_held_is_sent_when_its_time_is_over_though_the_upstream_is_silent():
    pieces = [EVENT, 0.4, EVENT, DONE]
    bench = Bench({"a": FakeResponse(pieces=pieces)}, holdback=Holdback(tokens=99, seconds=0.1))

    async def watch():
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0.25)
        early = list(bench.sink.sent)
        await asking
        return early

    assert asyncio.run(watch()) == [EVENT]
    assert bench.sink.body == EVENT + EVENT + DONE


def test_a_short_stream_that_is_held_comes_whole():
    bench = Bench({"a": good}, holdback=Holdback(tokens=99))
    assert bench.run() == EVENT + EVENT + DONE and bench.sink.ended


def test_a_caller_who_leaves_while_it_is_held_leaves_nothing_behind():
    bench = Bench({"a": FakeResponse(pieces=[EVENT, 60])}, holdback=Holdback(seconds=30))

    async def leave():
        asking = asyncio.create_task(bench.ask())
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(leave())
    assert bench.clients.responses[0].closed and bench.record.outcome == "client_gone"
