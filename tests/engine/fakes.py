"""Small real stand-ins for the network and the caller."""

import asyncio
from collections.abc import Callable

from app.clients import Clients
from app.telemetry.call_log import CallLog, CallRecord
from app.wire.errors import upstream_cut
from app.wire.upstream import UpstreamRequest


class FakeResponse:
    """Gives its pieces one by one. A number is a pause in seconds, an exception is raised."""

    def __init__(self, status=200, headers=None, pieces=()):
        self.status = status
        self.headers = headers or [("content-type", "text/event-stream")]
        self.pieces = list(pieces)  # those still to come
        self.closed = False

    async def read(self):
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, int | float):
                await asyncio.sleep(piece)
            elif isinstance(piece, Exception):
                raise piece
            elif piece:
                return piece
        return b""

    async def close(self):
        self.closed = True


class FakeClients(Clients):
    """Answers each request by calling `answer(request)`; remembers both."""

    def __init__(self, answer: Callable[[UpstreamRequest], FakeResponse]):
        super().__init__(1)
        self.answer = answer
        self.requests: list[UpstreamRequest] = []
        self.responses: list[FakeResponse] = []

    async def open(self, request):
        self.requests.append(request)
        response = self.answer(request)
        if isinstance(response, Exception):
            raise response
        self.responses.append(response)
        return response


class FakeSink:
    """The caller, who keeps all that arrives. `slow` seconds pass in every send."""

    def __init__(self, slow=0.0):
        self.headers = []
        self.content_type = ""
        self.started = False
        self.ended = self.aborted = False
        self.sent: list[bytes] = []
        self.said = self.sent
        self.whole: bytes | None = None
        self._slow = slow

    async def send(self, data):
        self.started = True
        self.sent.append(data)
        if self._slow:
            await asyncio.sleep(self._slow)

    async def end(self):
        self.ended = True

    async def answer(self, body):
        self.whole = body

    def abort(self):
        self.aborted = True

    @property
    def body(self):
        return b"".join(self.sent)


class ListLog(CallLog):
    def __init__(self):
        super().__init__()
        self.records: list[CallRecord] = []

    def write(self, record):
        self.records.append(record)


CUT = upstream_cut()
