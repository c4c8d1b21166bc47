"""What a provider's `prepare` may use: whole requests and a place for slow work."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from app.clients import read_whole
from app.clients.public_fetch import fetch_not_allowed
from app.engine.answer_headers import is_answer
from app.engine.call import CallState
from app.pool.lease import Lease
from app.wire.provider import Key
from app.wire.upstream import UpstreamReply, UpstreamRequest

if TYPE_CHECKING:
    from app.engine.chat_call import Exchange


class Network:
    """What `prepare` may use: whole requests and a place for slow work."""

    def __init__(self, exchange: "Exchange", trip: CallState, turn: Lease) -> None:
        self._exchange, self._trip, self._turn = exchange, trip, turn
        self.refusal: UpstreamReply | None = None  # the last reply, if it was one

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        exchange = self._exchange
        self._turn.asked, self.refusal = True, None
        response = await exchange.clients.open(request)
        reply = await read_whole(response, exchange.config.limits.response_bytes)
        if not is_answer(reply.status):
            self.refusal = reply
        return reply

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._exchange.slow_work.run(function, *args)

    async def renew(self, key: Key) -> None:
        await self._exchange.renew(key)

    async def fetch(self, urls: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        trip = self._trip
        if not trip.ask.caller.may_use_keys:
            raise fetch_not_allowed()
        watch, limit = trip.watch, trip.watch.limit
        watch.expect(None)  # how long it takes is not the upstream's doing
        try:
            return await trip.pictures.get(urls)
        finally:
            watch.expect(limit)
