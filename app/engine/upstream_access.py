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


class UpstreamAccess:
    """Whole requests, CPU work elsewhere, renewed keys and fetched pictures for `prepare`."""

    def __init__(self, engine: "Exchange", state: CallState, lease: Lease) -> None:
        self._engine, self._state, self._lease = engine, state, lease
        self.refusal: UpstreamReply | None = None  # the last reply, if it was one

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends a whole request and returns the whole reply; a refusal is remembered."""
        engine = self._engine
        self._lease.asked, self.refusal = True, None
        response = await engine.clients.open(request)
        reply = await read_whole(response, engine.config.limits.response_bytes)
        if not is_answer(reply.status):
            self.refusal = reply
        return reply

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs CPU work in the worker's child process."""
        return await self._engine.slow_work.run(function, *args)

    async def renew(self, key: Key) -> None:
        """Replaces a configured key in every worker."""
        await self._engine.renew(key)

    async def fetch(self, urls: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """Fetches a caller's pictures by URL, once for all attempts of the call."""
        state = self._state
        if not state.call.caller.may_use_keys:
            raise fetch_not_allowed()
        deadline, limit = state.deadline, state.deadline.limit
        deadline.expect(None)  # how long it takes is not the upstream's doing
        try:
            return await state.pictures.get(urls)
        finally:
            deadline.expect(limit)
