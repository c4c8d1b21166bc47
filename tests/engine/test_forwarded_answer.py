"""What of an upstream's answer reaches the caller."""

import asyncio

from app.config.schema import Config, KeyEntry, OpenAI
from app.engine.forward_call import ForwardCall
from app.engine.reverse_proxy import ReverseProxy
from app.pool.key_pool import KeyPool
from app.state.shared_table import SharedState
from app.telemetry.call_log import CallRecord
from tests.calls import DIRECTORY
from tests.engine.fakes import FakeClients, FakeResponse, ListLog
from tests.engine.test_reverse_proxy import ForwardSink


def test_of_the_answers_headers_only_what_is_the_callers_business():
    keys = [KeyEntry(id="1", val="sk-pool")]
    config = Config(openai=OpenAI(api_url="https://up.example/base/", api_keys=keys))
    headers = [
        ("content-type", "text/plain"),
        ("set-cookie", "a=b"),
        ("openai-organization", "org-operator"),
        ("cf-ray", "1"),
        ("connection", "x-gone"),
        ("x-gone", "1"),
        ("x-request-id", "req_1"),
        ("request-id", "req_2"),
        ("location", "https://up.example/base/v1/files/1"),
        ("etag", '"1"'),
    ]
    clients = FakeClients(lambda request: FakeResponse(200, headers))
    call = ForwardCall(
        rule=next(rule for rule in DIRECTORY.forwards if rule.prefix == "/v1/"),
        method="GET",
        path="x",
        query="",
        headers=[],
        body=None,
        length=None,
        public="http://gw:1",
        record=CallRecord(request_id="r", route="t"),
    )
    proxy, sink = (
        ReverseProxy(config, clients, KeyPool(config, SharedState()), ListLog()),
        ForwardSink(),
    )
    asyncio.run(proxy.run(call, sink))
    assert sink.headers == [
        ("content-type", "text/plain"),
        ("x-upstream-request-id", "req_1"),
        ("request-id", "req_2"),  # Anthropic's SDKs read it
        ("location", "http://gw:1/v1/files/1"),
        ("etag", '"1"'),
        ("x-auth-id", "1"),
        ("x-attempts", "1"),
    ]
