"""Spans of finished calls, sent to an OpenTelemetry collector from a thread.

The event loop only queues the records of calls that are traced. About once a second the thread
makes spans of them, one per call and a child per attempt, and sends them as OTLP over HTTP. While
the collector is away calls go on; beyond a bound the newest traces are dropped and counted.

Names are those of OpenTelemetry's semantic conventions for GenAI; what has no name there begins
with `gateway.`. No prompt, no answer, no secret: a span holds what the call's log line holds.

Needs packages that are installed apart: `pip install -r requirements-otel.txt`.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import getrandbits
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from app import __version__
from app.telemetry.call_log import CallRecord

logger = logging.getLogger("any_proxy.traces")

MOST_WAITING = 10_000  # calls in memory
_BATCH = 256  # calls in one request
TOGETHER_SECONDS = 1.0
_SEND_SECONDS = 5.0  # for one request with its repetitions
_CLOSE_SECONDS = 3.0
_SWITCH_SECONDS = 0.0005
_PATH = "/v1/traces"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# How the conventions call providers that have another name here.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
_FAMILIES = (("openai-", "openai"), ("claude-", "anthropic"), ("gemini-", "gcp.gemini"))
_OPERATIONS = {
    "openai-chat": "chat",
    "openai-responses": "chat",
    "anthropic": "chat",
    "gemini": "generate_content",
    "openai-embeddings": "embeddings",
    "openai-completions": "text_completion",
}
_NO_ERRORS = ("complete", "client_gone")

Attributes = dict[str, str | int | float | bool]
Ended = tuple[CallRecord, int]  # with the Unix time of its end in nanoseconds


def exporter_to(endpoint: str, headers: Mapping[str, str]) -> SpanExporter:
    """The official exporter. `endpoint` is the collector's address, with or without /v1/traces."""
    base = endpoint.rstrip("/")
    address = base if urlsplit(base).path.endswith(_PATH) else base + _PATH
    return OTLPSpanExporter(endpoint=address, headers=dict(headers), timeout=_SEND_SECONDS)


class _Resource(Resource):
    """The resource of all spans. The exporter looks it up for each, and the SDK's own hash is made
    of all its attributes as JSON."""

    def __hash__(self) -> int:
        return id(self)


class Traces:
    """The traces of one worker. `dropped` is called with how many calls were lost so far."""

    def __init__(
        self, exporter: SpanExporter, dropped: Callable[[int], None] = lambda calls: None
    ) -> None:
        # It logs every attempt; one line when it begins to fail and one when it works is enough.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter, self._report = exporter, dropped
        self._resource = _Resource(
            Resource.create({"service.version": __version__} | _name()).attributes
        )
        self._scope = InstrumentationScope("any-proxy", __version__)
        self._waiting: list[Ended] = []
        self._lock = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._dropped = self._reported = 0
        self._is_well = True
        self._thread: threading.Thread | None = None

    def add(self, record: CallRecord) -> None:
        """Takes a call that has just ended. Returns at once; the record is not changed later."""
        if not record.trace_id or not record.provider:
            return
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append((record, time.time_ns()))
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                # Spans take the thread long enough for the event loop to wait for the interpreter:
                # 5 ms each time, by Python's default.
                sys.setswitchinterval(_SWITCH_SECONDS)
                self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Sends what waits, for a few seconds at most. Blocks."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        self._exporter.shutdown()

    # --- on the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(TOGETHER_SECONDS)
            self._wake.clear()
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        for start in range(0, len(calls), _BATCH):
            batch = calls[start : start + _BATCH]
            try:
                spans = [span for call in batch for span in self._spans(*call)]
                is_sent = self._exporter.export(spans) is SpanExportResult.SUCCESS
            except Exception:  # the thread must live on, for there is no other
                logger.exception("spans cannot be made")
                is_sent = False
            if not is_sent:
                # Not kept: the exporter has tried for seconds, and the next ones come.
                with self._lock:
                    self._dropped += len(batch)
            if is_sent != self._is_well:
                self._is_well = is_sent
                if is_sent:
                    logger.warning("traces are sent again")
                else:
                    logger.error("traces cannot be sent to the collector: they are dropped")
        if self._dropped != self._reported:
            self._reported = self._dropped
            self._report(self._dropped)

    def _spans(self, record: CallRecord, end: int) -> Iterator[ReadableSpan]:
        trace, own = int(record.trace_id, 16), int(record.span_id, 16)
        context = SpanContext(trace, own, is_remote=False, trace_flags=_SAMPLED)
        parent = None
        if record.parent_span_id:
            parent_id = int(record.parent_span_id, 16)
            parent = SpanContext(trace, parent_id, is_remote=True, trace_flags=_SAMPLED)
        start = end - int(record.total_ms * 1e6)
        name = f"{_operation(record)} {record.model_asked or record.model}".rstrip()
        yield ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            call_attributes(record),
            kind=SpanKind.SERVER,
            status=_OK if record.outcome in _NO_ERRORS else Status(StatusCode.ERROR, record.code),
            start_time=start,
            end_time=end,
            instrumentation_scope=self._scope,
        )
        for attributes, began, ended, is_failed in _attempts(record, start, end):
            model = str(attributes.get("gen_ai.request.model", ""))
            yield ReadableSpan(
                f"{_operation(record)} {model}".rstrip(),
                SpanContext(trace, getrandbits(64) or 1, is_remote=False, trace_flags=_SAMPLED),
                context,
                self._resource,
                attributes,
                kind=SpanKind.CLIENT,
                status=Status(StatusCode.ERROR) if is_failed else _OK,
                start_time=began,
                end_time=ended,
                instrumentation_scope=self._scope,
            )


_OK = Status(StatusCode.UNSET)


def call_attributes(record: CallRecord) -> Attributes:
    """What is told of a call. Its tokens stand here and not at its attempts, so that sums over all
    spans count them once."""
    found: Attributes = {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": _provider(record.provider),
        "gen_ai.request.stream": record.stream,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "gateway.request_id": record.request_id,
        "gateway.outcome": record.outcome,
        "gateway.attempts": record.attempts,
    }
    if asked := record.model_asked or record.model:
        found["gen_ai.request.model"] = asked
    if record.outcome == "complete" and record.model:
        found["gen_ai.response.model"] = record.model
    if record.outcome not in _NO_ERRORS:
        found["error.type"] = record.code or record.outcome
    if record.counted:
        found["gen_ai.usage.input_tokens"] = record.prompt_tokens or 0
        found["gen_ai.usage.output_tokens"] = record.completion_tokens or 0
        found["gateway.counted"] = record.counted
        if record.cached_tokens:
            found["gen_ai.usage.cache_read.input_tokens"] = record.cached_tokens
        if record.cache_write_tokens:
            found["gen_ai.usage.cache_creation.input_tokens"] = record.cache_write_tokens
        if record.cost is not None:
            found["gateway.cost_usd"] = record.cost / 1e9
    if record.stream and record.first_event_ms is not None:
        found["gen_ai.response.time_to_first_chunk"] = record.first_event_ms / 1000
    for name, value in (("token", record.token), ("key_id", record.key_id)):
        if value:
            found[f"gateway.{name}"] = value
    return found


def _attempts(
    record: CallRecord, start: int, end: int
) -> Iterable[tuple[Attributes, int, int, bool]]:
    """Attributes, begin, end and whether it failed, of each attempt.

    The one that ended the call is not among those that failed: it began when the one before ended,
    or with the call, so the wait for its key is part of it.
    """
    last = start
    for one in record.tried:
        ended = min(int(one.ended * 1e9), end)
        found: Attributes = {
            "gen_ai.operation.name": _operation(record),
            "gen_ai.provider.name": _provider(one.provider),
            "gen_ai.request.model": one.model,
            "gateway.key_id": one.key_id,
            "error.type": one.code or one.outcome,
        }
        if one.status:
            found["http.response.status_code"] = one.status
        yield found, max(ended - int(one.ms * 1e6), start), ended, True
        last = max(last, ended)
    if record.attempts > len(record.tried):
        found = {
            "gen_ai.operation.name": _operation(record),
            "gen_ai.provider.name": _provider(record.provider),
            "gen_ai.request.model": record.model,
            "gateway.key_id": record.key_id,
        }
        if record.upstream_request_id:
            found["gateway.upstream_request_id"] = record.upstream_request_id
        is_failed = record.outcome not in _NO_ERRORS
        if is_failed:
            found["error.type"] = record.code or record.outcome
        else:
            found["http.response.status_code"] = record.status
        yield found, last, end, is_failed


def _operation(record: CallRecord) -> str:
    return _OPERATIONS.get(record.front) or record.front.removeprefix("openai-") or "forward"


def _provider(name: str) -> str:
    for start, family in _FAMILIES:
        if name.startswith(start):
            return family
    return _PROVIDERS.get(name, name)


def _name() -> dict[str, str]:
    """The service's name, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES give another."""
    known = Resource.create().attributes.get("service.name", "")
    return {"service.name": "any-proxy"} if str(known).startswith("unknown_service") else {}
