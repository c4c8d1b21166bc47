"""One chat call, with a network and a caller of our own making."""

import asyncio
import json

import pytest

from app.config.schema import Config, KeyEntry, OpenAI, Timeouts
from app.engine.call import ChatCall, Target
from app.engine.chat_call import Exchange
from app.fronts.openai_chat.errors import error_body
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from app.wire.errors import GatewayError
from tests.calls import CHAT, DIRECTORY, asked_of
from tests.engine.fakes import CUT, FakeClients, FakeResponse, FakeSink, ListLog

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
KEYS = [KeyEntry(id="1", val="sk-one"), KeyEntry(id="2", val="sk-two")]


class Bench:
    """An exchange on fakes; `ask` runs one call."""

    def __init__(self, answer, keys=KEYS, sink=None, responses_models=None, **timeouts):
        config = Config(
            openai=OpenAI(
                api_url="http://up/prefix/", api_keys=keys, responses_models=responses_models
            ),
            timeouts=Timeouts(**timeouts),
        )
        self.clients = FakeClients(answer if callable(answer) else lambda request: answer)
        self.log = ListLog()
        self.sink = sink or FakeSink()
        pool = KeyPool(config, SharedState())
        self.exchange = Exchange(config, self.clients, pool, self.log)

    async def ask(self, body=None, headers=None, front=CHAT, asked=None, **members):
        body = body or json.dumps({"model": "m", "messages": [], **members}).encode()
        asked = asked or asked_of(body, front)
        provider, model, _ = DIRECTORY.choose(asked.provider, asked.model, asked)
        record = CallRecord(request_id="r", route="t")
        await self.exchange.run(
            ChatCall(
                target=Target(provider, model, asked.model),
                front=front,
                asked=asked,
                headers=headers or {},
                record=record,
            ),
            self.sink,
        )

    @property
    def record(self):
        (record,) = self.log.records
        return record


def run(coroutine):
    return asyncio.run(coroutine)


def test_a_stream_goes_through_untouched_and_is_complete():
    bench = Bench(FakeResponse(pieces=[EVENT, EVENT + DONE]))
    run(bench.ask(stream=True))
    assert bench.sink.body == EVENT + EVENT + DONE
    assert bench.sink.ended and bench.clients.responses[0].closed
    assert bench.record.outcome == "complete" and bench.record.bytes_out == len(bench.sink.body)


def test_one_send_per_upstream_read():
    bench = Bench(FakeResponse(pieces=[EVENT * 3, EVENT, DONE]))
    run(bench.ask(stream=True))
    assert bench.sink.sent == [EVENT * 3, EVENT, DONE]


def test_the_gateways_own_members_are_stripped_and_the_rest_is_the_callers_bytes():
    bench = Bench(FakeResponse(headers=[("content-type", "application/json")], pieces=[b"{}"]))
    body = b'{"model":"m", "x":1.50, "big":123456789012345678901234567890, "provider":"openai"}'
    run(bench.ask(body))
    sent = bench.clients.requests[0].body
    assert sent == b'{"model":"m","x":1.50,"big":123456789012345678901234567890}'


def test_a_body_without_own_members_travels_byte_for_byte():
    bench = Bench(FakeResponse(headers=[("content-type", "application/json")], pieces=[b"{}"]))
    body = b'{ "model" : "m",\n "new_field": {"a": [1e999]} }'
    run(bench.ask(body))
    assert bench.clients.requests[0].body is body
    assert bench.clients.requests[0].url == "http://up/prefix/v1/chat/completions"


def test_the_callers_own_key_is_used_and_not_named():
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]))
    run(bench.ask(stream=True, headers={"authorization": "Bearer sk-mine", "x-auth-id": "1"}))
    assert ("Authorization", "Bearer sk-mine") in bench.clients.requests[0].headers
    assert not [n for n, _ in bench.sink.headers if n == "x-auth-id"]


@pytest.mark.parametrize("placeholder", ["", "Bearer", "Bearer pool", "none", "Bearer EMPTY"])
def test_placeholders_mean_the_pool(placeholder):
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]))
    run(bench.ask(stream=True, headers={"authorization": placeholder, "x-auth-id": "2"}))
    assert ("Authorization", "Bearer sk-two") in bench.clients.requests[0].headers
    assert ("x-auth-id", "2") in bench.sink.headers


def test_the_header_wins_over_the_bodys_index():
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]))
    run(bench.ask(stream=True, headers={"x-auth-id": "2"}, openai={"index": "1"}))
    assert bench.record.key_id == "2"


def test_the_bodys_index_names_a_key():
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]))
    run(bench.ask(stream=True, openai={"conversation": {"index": "2"}}))
    assert bench.record.key_id == "2"


def test_an_unknown_id_is_a_401_naming_it_and_nobody_is_asked():
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(stream=True, headers={"x-auth-id": "77"}))
    assert caught.value.status == 401 and "'77'" in caught.value.message
    assert not bench.clients.requests


def test_without_any_key_it_is_a_401_that_says_what_to_do():
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]), keys=[])
    with pytest.raises(GatewayError) as caught:
        run(bench.ask())
    assert caught.value.code == "no_api_key" and "Authorization" in caught.value.message


def test_an_upstream_error_keeps_its_status_body_and_retry_after():
    body = b'{\n "error": {"message": "slow down", "type": "tokens", "code": "x", "y": 1}}'
    reply = FakeResponse(429, [("retry-after", "7"), ("x-ratelimit-limit-tokens", "5")], [body])
    bench = Bench(reply)
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(stream=True))
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)
    assert error_body(caught.value) == body
    assert ("x-ratelimit-limit-tokens", "5") in caught.value.headers
    assert bench.record.status == 429 and bench.record.outcome == "upstream_error"


def test_a_refused_pool_key_is_told_by_id_without_a_piece_of_it():
    body = b'{"error":{"message":"Incorrect API key provided: sk-on*","code":"invalid_api_key"}}'
    bench = Bench(FakeResponse(401, pieces=[body]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(headers={"x-auth-id": "1"}))
    assert "key 1" in caught.value.message and b"sk-on" not in error_body(caught.value)


def test_a_refused_own_key_gets_the_upstreams_own_words():
    body = b'{"error":{"message":"Incorrect API key provided: sk-my*","code":"invalid_api_key"}}'
    bench = Bench(FakeResponse(401, pieces=[body]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(headers={"authorization": "Bearer sk-mine"}))
    assert error_body(caught.value) == body


def test_a_cut_before_the_first_event_is_a_true_status():
    bench = Bench(FakeResponse(pieces=[b"data: {", CUT]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(stream=True))
    assert caught.value.status == 502 and not bench.sink.started


@pytest.mark.parametrize("ending", [[CUT], []], ids=["reset", "end of body"])
def test_a_cut_in_the_stream_is_an_error_event_and_no_done(ending):
    bench = Bench(FakeResponse(pieces=[EVENT + b'data: {"cho', *ending]))
    run(bench.ask(stream=True))
    assert bench.sink.body.startswith(EVENT + b'data: {"error":{"message":"')
    assert b"[DONE]" not in bench.sink.body and bench.sink.body.count(b'"cho') == 1
    assert bench.sink.ended and bench.record.outcome == "upstream_cut"


def test_a_page_instead_of_an_answer_is_a_bad_response():
    bench = Bench(FakeResponse(headers=[("content-type", "text/html")], pieces=[b"<html>"]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(stream=True))
    assert caught.value.code == "upstream_bad_response"


def test_json_that_breaks_off_is_a_bad_response():
    bench = Bench(FakeResponse(headers=[("content-type", "application/json")], pieces=[b'{"a":']))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask())
    assert caught.value.status == 502 and bench.sink.whole is None


def test_a_compressed_stream_is_undone_though_none_was_asked_for():
    import gzip

    packed = gzip.compress(EVENT + DONE)
    headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
    bench = Bench(FakeResponse(headers=headers, pieces=[packed[:20], packed[20:]]))
    run(bench.ask(stream=True))
    assert bench.sink.body == EVENT + DONE


def test_no_first_event_in_time_is_a_504():
    bench = Bench(lambda request: FakeResponse(pieces=[5, EVENT]), first_event=0.05)
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(stream=True))
    assert caught.value.status == 504 and "first_event" in caught.value.message
    assert bench.clients.responses[0].closed and bench.record.outcome == "upstream_idle"


def test_silence_in_the_stream_is_an_error_event():
    bench = Bench(FakeResponse(pieces=[EVENT, 5, EVENT]), idle=0.05)
    run(bench.ask(stream=True))
    assert b'"code":"upstream_timeout"' in bench.sink.sent[-1]
    assert bench.record.outcome == "upstream_idle" and bench.clients.responses[0].closed


def test_a_stream_that_keeps_talking_is_not_idle():
    bench = Bench(FakeResponse(pieces=[EVENT, 0.3] * 6 + [DONE]), idle=1.6)
    run(bench.ask(stream=True))
    assert bench.record.outcome == "complete"


def test_the_total_ends_even_a_stream_that_keeps_talking():
    bench = Bench(FakeResponse(pieces=[EVENT, 0.02] * 100), total=0.2)
    run(bench.ask(stream=True))
    assert "timeouts.total" in json.loads(bench.sink.sent[-1][6:])["error"]["message"]


def test_a_call_that_is_not_streamed_may_take_until_the_total():
    headers = [("content-type", "application/json")]
    bench = Bench(FakeResponse(headers=headers, pieces=[0.1, b"{}"]), first_event=0.02, idle=0.02)
    run(bench.ask())
    assert bench.sink.whole == b"{}"


def test_silence_is_bridged_by_comments_from_the_start_of_waiting():
    pieces = [0.3, EVENT, 0.3, DONE]
    bench = Bench(FakeResponse(pieces=pieces), keep_alive_comment=0.05)
    run(bench.ask(stream=True))
    first = bench.sink.sent.index(EVENT)
    for bridge in (bench.sink.sent[:first], bench.sink.sent[first + 1 : -1]):
        assert set(bridge) == {b": ping\n\n"}
        assert 2 <= len(bridge) <= 6  # five in an idle world
    assert bench.sink.sent[-1] == DONE


def test_an_error_after_a_comment_is_told_as_an_event():
    reply = FakeResponse(400, pieces=[b'{"error":{"message":"no"}}'])

    async def late(request):
        await asyncio.sleep(0.1)
        return reply

    bench = Bench(None, keep_alive_comment=0.03)
    bench.clients.open = late  # the wait is for the headers themselves
    run(bench.ask(stream=True))
    assert bench.sink.sent[0] == b": ping\n\n"
    assert b'"message":"no"' in bench.sink.sent[-1] and bench.sink.ended


def test_a_caller_who_does_not_read_is_left():
    bench = Bench(FakeResponse(pieces=[EVENT, EVENT]), sink=FakeSink(slow=0.5), write=0.1)
    run(asyncio.wait_for(bench.ask(stream=True), 8))
    assert bench.record.outcome == "client_gone" and bench.clients.responses[0].closed


def test_a_caller_who_does_not_read_is_sent_no_error_that_would_have_to_wait_as_well():
    bench = Bench(FakeResponse(pieces=[EVENT, EVENT]), sink=FakeSink(slow=3600), write=0.1)
    run(asyncio.wait_for(bench.ask(stream=True), 8))
    assert bench.sink.body == EVENT and bench.sink.aborted and not bench.sink.ended
    assert bench.record.code == "caller_not_reading"


def test_a_caller_who_leaves_closes_the_upstream():
    bench = Bench(FakeResponse(pieces=[EVENT, 60]))

    async def leave():
        task = asyncio.create_task(bench.ask(stream=True))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(leave())
    assert bench.clients.responses[0].closed
    assert bench.record.outcome == "client_gone" and bench.record.status == 499


COUNTS = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
COUNTED = b'data: {"choices":[],"usage":%b}\n\n' % json.dumps(COUNTS).encode()


def left(bench, **members):
    """A call whose caller leaves as soon as nothing more comes."""

    async def leave():
        task = asyncio.create_task(bench.ask(**members))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(leave())
    return bench.record


def counts(record):
    return record.prompt_tokens, record.completion_tokens, record.counted


def test_who_leaves_behind_done_has_a_whole_answer():
    record = left(Bench(FakeResponse(pieces=[EVENT, COUNTED + DONE, 60])), stream=True)
    assert (record.outcome, record.status) == ("complete", 200)
    assert counts(record) == (7, 3, "told")


def test_who_leaves_before_a_whole_body_was_sent_has_used_what_it_counts():
    body = b'{"choices":[],"usage":%b}' % json.dumps(COUNTS).encode()
    bench = Bench(FakeResponse(headers=[("content-type", "application/json")], pieces=[body, 60]))
    record = left(bench)
    assert (record.outcome, record.status) == ("client_gone", 499)
    assert counts(record) == (7, 3, "told")


def test_who_leaves_in_the_middle_has_used_what_was_counted_and_what_was_said():
    record = left(Bench(FakeResponse(pieces=[EVENT, COUNTED, EVENT * 20, 60])), stream=True)
    assert (record.outcome, record.status) == ("client_gone", 499)
    assert counts(record) == (7, record.bytes_out // 200, "estimated")


def test_shutdown_tells_open_streams_and_nothing_is_left():
    bench = Bench(FakeResponse(pieces=[EVENT, 60]))

    async def stop():
        task = asyncio.create_task(bench.ask(stream=True))
        await asyncio.sleep(0.05)
        bench.exchange.calls.end_all()
        await task
        assert len(asyncio.all_tasks()) == 1

    run(stop())
    assert b'"code":"shutting_down"' in bench.sink.sent[-1]
    assert bench.record.outcome == "shutdown"


def test_the_log_record_never_holds_prompt_or_key():
    bench = Bench(FakeResponse(pieces=[EVENT + DONE]))
    run(bench.ask(stream=True, messages=[{"role": "user", "content": "my secret plan"}]))
    text = repr(bench.record)
    assert "secret plan" not in text and "sk-" not in text


STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'


def test_a_finished_stream_with_a_clean_end_gets_its_done():
    bench = Bench(FakeResponse(pieces=[EVENT, STOP]))
    run(bench.ask(stream=True))
    assert bench.sink.body == EVENT + STOP + DONE
    assert bench.record.outcome == "complete"


def test_a_finished_stream_whose_connection_breaks_is_a_cut():
    bench = Bench(FakeResponse(pieces=[EVENT, STOP, CUT]))
    run(bench.ask(stream=True))
    assert bench.sink.body.startswith(EVENT + STOP) and b"upstream_cut" in bench.sink.body
    assert bench.record.outcome == "upstream_cut"


@pytest.mark.parametrize(
    "told",
    [
        b'data: {"choices":[{"index":0,"delta":{}}],"error":{"message":"slow","code":429}}\n\n',
        b'event: error\ndata: {"error":{"message":"slow","code":"rate_limit_exceeded"}}\n\n',
        b'error: {"error":{"message":"slow","code":"429"}}\n\n',
    ],
)
def test_an_error_in_a_stream_is_logged_and_rests_the_key_it_is_about(told):
    bench = Bench(FakeResponse(pieces=[EVENT, told, DONE]), keys=KEYS[:1])
    run(bench.ask(stream=True))
    assert bench.sink.body == EVENT + told + DONE
    assert bench.record.outcome == "upstream_error" and bench.record.code
    with pytest.raises(GatewayError) as caught:
        bench.exchange.pool.pick("openai.api_keys", None, model="m")
    assert caught.value.status == 429


def test_usage_is_asked_for_and_taken_out_where_the_caller_said_nothing():
    bench = Bench(FakeResponse(pieces=[EVENT, STOP, USAGE + DONE]))
    body = b' { "model":"m", "x":1.50,"stream":true}'
    run(bench.ask(body))
    sent = bench.clients.requests[0].body
    assert (
        sent == b' {"stream_options":{"include_usage":true}, "model":"m", "x":1.50,"stream":true}'
    )
    assert bench.sink.body == EVENT + STOP + DONE
    assert (bench.record.prompt_tokens, bench.record.completion_tokens) == (7, 3)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_a_caller_who_says_something_about_usage_is_respected(options):
    bench = Bench(FakeResponse(pieces=[EVENT, STOP, USAGE + DONE]))
    body = json.dumps({"model": "m", "stream": True, "stream_options": options}).encode()
    run(bench.ask(body))
    assert bench.clients.requests[0].body is body
    assert bench.sink.body == EVENT + STOP + USAGE + DONE


def test_an_upstream_that_knows_no_stream_options_is_asked_again_without_and_once():
    def answer(request):
        if b"stream_options" in request.body:
            told = b'{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs"}]}'
            return FakeResponse(422, [("content-type", "application/json")], [told])
        return FakeResponse(pieces=[EVENT, STOP, DONE])

    bench = Bench(answer)
    for asked in (2, 3):
        bench.sink = FakeSink()
        run(bench.ask(stream=True, model="knows-no-stream-options"))
        assert bench.sink.body == EVENT + STOP + DONE
        assert len(bench.clients.requests) == asked
        assert "x-gateway-dropped-params" not in dict(bench.sink.headers)  # nobody asked for it


def test_tokens_that_nobody_told_are_guessed():
    bench = Bench(FakeResponse(pieces=[EVENT * 8, STOP, DONE]))
    run(bench.ask(stream=True, user="u" * 400))
    assert bench.record.prompt_tokens > 100
    assert bench.record.completion_tokens > 0


@pytest.mark.parametrize(
    "label", ["application/json", "text/plain", "application/octet-stream", ""]
)
def test_an_event_stream_is_known_by_its_bytes(label):
    headers = [("content-type", label)] if label else [("x-any", "1")]
    bench = Bench(FakeResponse(200, headers, [EVENT[:3], EVENT[3:], STOP, DONE]))
    run(bench.ask(stream=True))
    assert bench.sink.body == EVENT + STOP + DONE


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("label", ["text/html", "application/json", "text/plain"])
def test_a_portals_page_is_a_502_whatever_its_label(stream, label):
    page = b"<html>\n\n<body>log in</body></html>"
    bench = Bench(lambda request: FakeResponse(200, [("content-type", label)], [page]))
    with pytest.raises(GatewayError) as caught:
        run(bench.ask(stream=stream))
    assert (caught.value.status, caught.value.code) == (502, "upstream_bad_response")
