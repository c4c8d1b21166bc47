"""The answer to a request for no tokens at all, which no upstream has to be asked for.

Anthropic's clients ask so to warm a prompt cache. Protocol sheet: front-messages, 4.1.
"""

import os
from collections.abc import Iterable
from time import time

from app.engine.call import CallState, Target
from app.wire.events import Event, Finish, Started
from app.wire.front import Answering


class _Nothing:
    """A decoder of an upstream that has said nothing and reached the limit with it."""

    def __init__(self, model: str) -> None:
        self._model = model

    def feed(self, data: bytes) -> Iterable[Event]:
        """No events: nothing comes."""
        return ()

    def finish(self) -> Iterable[Event]:
        """An answer that was ended by its length."""
        return (Started("", self._model), Finish("length"))


async def answer_nothing(state: CallState, target: Target, max_bytes: int) -> None:
    """Sends it. Raises GatewayError 400 for a request that could not be asked either."""
    call, sink = state.call, state.sink
    front, asked = call.front, call.asked
    answering = Answering(
        asked=asked,
        chat=state.neutral(),
        model=target.model,
        alias=target.alias,
        created=int(time()),
        new_id=os.urandom(16).hex(),
        session={},
        max_bytes=max_bytes,
    )
    state.begin_headers(target, "")
    renderer = (front.stream if asked.stream else front.whole)(answering, _Nothing(target.model))
    body = renderer.finish()
    call.record.bytes_out, call.record.key_id = len(body), ""
    if asked.stream:
        await sink.send(body)
        await sink.end()
    else:
        await sink.answer(body)
