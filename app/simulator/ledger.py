"""Records the last requests byte for byte, and counts exactly what is open now.

Every request runs inside `Ledger.handle`, which Sanic's protocol calls in place of its own handler.
So the count of open requests is always right, and a client that leaves is recorded at once.
Memory is bounded: only the last records are kept, and of long bodies only size and hash.
"""

import hashlib
import time
from asyncio import BaseTransport, CancelledError
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import msgspec
from sanic import Request
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

MAX_RECORDS = 500
MAX_BODY_BYTES = 128 * 1024  # a turn of an agent program is smaller
MAX_NAMES = 20_000  # keys and models counted one by one; the rest are counted together
SESSION_COOKIES = ("sessionKey", "__Secure-next-auth.session-token", "_U")


class Record:
    """One request, from its head to its outcome."""

    def __init__(self, seq: int, request: Request) -> None:
        self.seq = seq
        self.at = time.time()
        self.head = bytes(request.head)
        self.family = request.path.split("/", 2)[1]
        self.method = request.method
        self.path = request.path
        self.route = "(no route)"  # the registered path: without ids, so that names stay few
        self.key = credential(request)
        self.model = ""
        self.fault = ""
        self.body = b""
        self.body_bytes = 0
        self.body_sha256 = ""
        self.status = 0
        self.is_stream = False
        self.events = 0
        self.sent_bytes = 0
        # The outcome when the connection is lost; faults that close it set their own.
        self.outcome_if_lost = "client_gone"
        self.outcome = "open"
        self.ended_at = 0.0

    def note_route_and_body(self, request: Request) -> None:
        """Notes the route, and the body unless it is streamed."""
        if request.route:
            self.route = "/" + request.route.path.lstrip("/")
        if request.body:
            self._note_body(request.body)

    def _note_body(self, body: bytes) -> None:
        self.body_bytes = len(body)
        self.body_sha256 = hashlib.sha256(body).hexdigest()
        if len(body) <= MAX_BODY_BYTES:
            self.body = body

    def view(self) -> dict[str, Any]:
        """The record as /_sim/last shows it; `headers` keep case, order and repetition."""
        lines = self.head.decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1] if lines[0].count(" ") == 2 else lines[0]
        pairs = (line.partition(":") for line in lines[1:] if line)
        try:
            body = msgspec.json.decode(self.body) if self.body else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
        return {
            "seq": self.seq,
            "at": self.at,
            "family": self.family,
            "method": self.method,
            "target": target,
            "path": self.path,
            "headers": [[name, value.strip(" \t")] for name, _, value in pairs],
            "key": self.key,
            "model": self.model,
            "fault": self.fault,
            "body_bytes": self.body_bytes,
            "body_sha256": self.body_sha256,
            "body_text": self.body.decode("utf-8", "replace"),
            "json": body,
            "status": self.status,
            "stream": self.is_stream,
            "events": self.events,
            "sent_bytes": self.sent_bytes,
            "outcome": self.outcome,
            "ms": round(1000 * ((self.ended_at or time.time()) - self.at), 1),
        }


class Ledger:
    """The last requests and the counts of all."""

    def __init__(self) -> None:
        self.connections: set[CountingProtocol] = set()
        self.reset()

    def reset(self) -> None:
        """Drops records and counts; open requests stay counted as open."""
        still_open: dict[int, Record] = getattr(self, "open", {})
        self.open = still_open
        self.seq = max(still_open, default=0)
        self.last: deque[Record] = deque(maxlen=MAX_RECORDS)
        self.opened_connections = 0
        self.by_path: Counter[str] = Counter()
        self.by_family: Counter[str] = Counter()
        self.by_status: Counter[str] = Counter()
        self.by_outcome: Counter[str] = Counter()
        self.by_key: dict[str, Counter[str]] = {}
        self.by_model: Counter[str] = Counter()

    async def handle(
        self,
        inner: Callable[[Request], Awaitable[None]],
        protocol: "CountingProtocol",
        request: Request,
    ) -> None:
        """Runs the application's own handler for one request and records begin and end."""
        protocol.is_control = request.path.startswith("/_sim/")
        if protocol.is_control:
            await inner(request)
            return
        record = self._begin(request)
        try:
            await inner(request)
            record.outcome = "complete"
        except CancelledError:
            record.outcome = record.outcome_if_lost
            raise
        except BaseException:
            record.outcome = "simulator_error"
            raise
        finally:
            self._end(record)

    def stats(self) -> dict[str, Any]:
        """The counts as /_sim/stats shows them."""
        by_key_open = Counter(record.key for record in self.open.values())
        by_path_open = Counter(f"{each.method} {each.route}" for each in self.open.values())
        return {
            "requests": {
                "total": self.by_family.total(),
                "by_family": self.by_family,
                "by_path": self.by_path + by_path_open,
                "by_status": self.by_status,
                "by_model": self.by_model,
            },
            "open": {
                "connections": sum(not each.is_control for each in self.connections),
                "requests": len(self.open),
                "streams": sum(record.is_stream for record in self.open.values()),
            },
            "connections_opened": self.opened_connections,
            "outcomes": self.by_outcome,
            "aborted_by_client": self.by_outcome["client_gone"],
            "by_key": {
                key: {**counts, "open": by_key_open[key]} for key, counts in self.by_key.items()
            },
        }

    def _begin(self, request: Request) -> Record:
        self.seq += 1
        record = request.ctx.record = Record(self.seq, request)
        self.open[record.seq] = record
        self.last.append(record)
        self.by_family[record.family] += 1
        self._of_key(record)["requests"] += 1
        return record

    def _end(self, record: Record) -> None:
        record.ended_at = time.time()
        self.open.pop(record.seq, None)
        self.by_path[f"{record.method} {record.route}"] += 1
        self.by_status[str(record.status)] += 1
        self.by_outcome[record.outcome] += 1
        if record.model and (record.model in self.by_model or len(self.by_model) < MAX_NAMES):
            self.by_model[record.model] += 1
        counts = self._of_key(record)
        counts[record.outcome] += 1
        counts[f"status_{record.status}"] += 1

    def _of_key(self, record: Record) -> Counter[str]:
        if record.key not in self.by_key and len(self.by_key) >= MAX_NAMES:
            record.key = "(others)"
        return self.by_key.setdefault(record.key, Counter())


class CountingProtocol(WebSocketProtocol):
    """Sanic's protocol; counts connections and runs each request through the ledger."""

    __slots__ = ("is_control", "ledger")

    def _setup(self) -> None:
        super()._setup()  # type: ignore[no-untyped-call]
        self.is_control = False
        self.ledger: Ledger = self.app.ctx.ledger
        self.request_handler = partial(self.ledger.handle, self.request_handler, self)

    def connection_made(self, transport: BaseTransport) -> None:
        """Counts the connection."""
        self.ledger.connections.add(self)
        self.ledger.opened_connections += 1
        super().connection_made(transport)  # type: ignore[no-untyped-call]

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts the connection as closed."""
        self.ledger.connections.discard(self)
        super().connection_lost(exc)  # type: ignore[no-untyped-call]


def record_of(request: Request) -> Record:
    """The request's record."""
    record: Record = request.ctx.record
    return record


def credential(request: Request) -> str:
    """The key of the request, wherever its upstream expects it; "" for none."""
    headers = request.headers
    if value := headers.get("authorization", ""):
        scheme, _, rest = value.partition(" ")
        return rest.strip() if scheme.lower() in ("bearer", "bot") else value
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if value := headers.get(name, ""):
            return value
    if "key=" in request.query_string:
        return parse_qs(request.query_string).get("key", [""])[0]
    for cookie in headers.get("cookie", "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name in SESSION_COOKIES:
            return value
    return ""
