"""Spans as a collector gets them: decoded from what the official exporter sends."""

import logging
import time

import pytest

from app.telemetry import traces as room
from app.telemetry.call_log import Attempt, CallRecord
from app.telemetry.trace_context import begin_trace
from app.telemetry.traces import Traces, exporter_to
from tests.server.running import free_port, until
from tests.telemetry.otlp_receiver import Receiver
from tests.telemetry.records import record

CLIENT, SERVER = 3, 2


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def traces(receiver, monkeypatch):
    monkeypatch.setattr(room, "TOGETHER_SECONDS", 0.02)
    lost: list[int] = []
    one = Traces(exporter_to(receiver.url, {"x-team": "gateway"}), lost.append)
    one.lost = lost
    yield one
    one.close()


def traced(parent=None, **more) -> CallRecord:
    call = record(**more)
    begin_trace(call, parent, 1.0)
    return call


def sent(traces, receiver, *calls) -> list[dict]:
    for call in calls:
        traces.add(call)
    until(lambda: len(receiver.spans) >= sum(1 + call.attempts for call in calls))
    return receiver.spans


def test_a_call_is_a_span_with_a_child_per_attempt(traces, receiver):
    now = time.time()
    failed = Attempt("openai-api", "gpt-4o", "k1", 429, "rate limited", "", 200.0, "next")
    failed.ended = now - 1.5
    call = traced(
        f"00-{'a' * 32}-{'b' * 16}-01",
        provider="claude-api", model="claude-haiku-4-5", model_asked="fast", front="openai-chat",
        key_id="k2", token="alice", stream=True, first_event_ms=700.0, total_ms=2000.0, attempts=2,
        tried=[failed], prompt_tokens=12, completion_tokens=34, cached_tokens=5, counted="told",
        cost=2_500_000, upstream_request_id="req_1",
    )  # fmt: skip
    root, first, second = sent(traces, receiver, call)
    assert (root["name"], root["kind"], root["is_error"]) == ("chat fast", SERVER, False)
    assert (root["trace"], root["parent"], root["id"]) == ("a" * 32, "b" * 16, call.span_id)
    assert root["attributes"] == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "fast", "gen_ai.response.model": "claude-haiku-4-5",
        "gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": 0.7,
        "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 34,
        "gen_ai.usage.cache_read.input_tokens": 5, "http.route": "/v1/*",
        "http.response.status_code": 200, "gateway.request_id": "r1", "gateway.token": "alice",
        "gateway.key_id": "k2", "gateway.outcome": "complete", "gateway.attempts": 2,
        "gateway.counted": "told", "gateway.cost_usd": 0.0025,
    }  # fmt: skip
    assert root["end"] - root["start"] == 2_000_000_000
    assert abs(root["end"] / 1e9 - now) < 1
    for child in (first, second):
        assert child["kind"] == CLIENT and child["parent"] == root["id"]
        assert root["start"] <= child["start"] < child["end"] <= root["end"]
        assert not any("usage" in name for name in child["attributes"]), "counted once"
    assert first["is_error"] and first["name"] == "chat gpt-4o"
    assert first["attributes"] == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o", "gateway.key_id": "k1", "error.type": "rate limited",
        "http.response.status_code": 429,
    }  # fmt: skip
    assert first["end"] - first["start"] == 200_000_000
    assert second["start"] == first["end"] and second["end"] == root["end"]
    assert second["attributes"]["gateway.upstream_request_id"] == "req_1"
    assert receiver.resource["service.name"] == "any-proxy"
    assert receiver.heads[0]["x-team"] == "gateway"


def test_a_call_that_fails_says_by_what(traces, receiver):
    gone = traced(outcome="client_gone", status=499)
    failed = traced(outcome="upstream_error", status=502, code="bad_response", attempts=1)
    root, child, left, last = sent(traces, receiver, failed, gone)
    assert root["is_error"] and root["attributes"]["error.type"] == "bad_response"
    assert child["is_error"] and child["attributes"]["error.type"] == "bad_response"
    assert not left["is_error"] and "error.type" not in left["attributes"]
    assert not last["is_error"]


def test_calls_that_are_not_traced_and_refused_strangers_make_no_span(traces, receiver):
    traces.add(record())
    traces.add(traced(provider=""))
    sent(traces, receiver, traced(request_id="wanted"))
    told = {s["attributes"].get("gateway.request_id") for s in receiver.spans}
    assert told == {"wanted", None}


@pytest.mark.parametrize(
    "provider, name",
    [
        ("openai-api", "openai"), ("openai-chat-web", "openai"), ("gemini-api", "gcp.gemini"),
        ("mistral", "mistral_ai"), ("xai", "x_ai"), ("deepseek", "deepseek"), ("lab", "lab"),
    ],
)  # fmt: skip
def test_providers_have_the_names_of_the_conventions(provider, name):
    told = room.call_attributes(record(provider=provider))
    assert told["gen_ai.provider.name"] == name


@pytest.mark.parametrize(
    "front, operation",
    [
        ("openai-chat", "chat"), ("openai-responses", "chat"), ("anthropic", "chat"),
        ("gemini", "generate_content"), ("openai-embeddings", "embeddings"),
        ("openai-images-generations", "images-generations"), ("", "forward"),
    ],
)  # fmt: skip
def test_operations_have_the_names_of_the_conventions(front, operation):
    assert room.call_attributes(record(front=front))["gen_ai.operation.name"] == operation


def test_a_collector_that_refuses_loses_spans_and_is_told_once(traces, receiver, caplog):
    receiver.status = 400
    traces.add(traced())
    until(lambda: traces.lost == [1])
    traces.add(traced())
    until(lambda: traces.lost == [1, 2])
    receiver.status = 200
    sent(traces, receiver, traced())
    until(lambda: "traces are sent again" in caplog.messages)  # the collector knows it earlier
    told = [one for one in caplog.messages if "traces" in one]
    assert told == [
        "traces cannot be sent to the collector: they are dropped", "traces are sent again",
    ]  # fmt: skip
    assert not [one for one in caplog.records if one.name.startswith("opentelemetry")]


def test_without_a_collector_nothing_blocks_and_memory_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(room, "TOGETHER_SECONDS", 0.02)
    monkeypatch.setattr(room, "MOST_WAITING", 100)
    caplog.set_level(logging.ERROR)
    lost: list[int] = []
    away = Traces(exporter_to(f"http://127.0.0.1:{free_port()}", {}), lost.append)
    began = time.perf_counter()
    for _ in range(1000):
        away.add(traced())
    assert time.perf_counter() - began < 3
    began = time.monotonic()
    away.close()
    assert time.monotonic() - began < 5
    until(lambda: lost and lost[-1] >= 900)


def test_the_address_may_have_the_path_of_traces():
    for address in ("http://x:4318", "http://x:4318/", "http://x:4318/v1/traces"):
        assert (
            exporter_to(address, {})._endpoint == "http://x:4318/v1/traces"
        )  # private: no other way
