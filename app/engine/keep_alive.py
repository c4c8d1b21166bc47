"""What bridges the upstream's silence in a stream: comments, and now and then an event."""

from collections.abc import Callable, Coroutine
from contextlib import suppress

from app.engine.call import ChatCall
from app.engine.sink import Sink

# Codex gives up a stream that is silent for long, and to it a comment is silence.
_WAKE_SECONDS = 60.0


def keep_alive(
    sink: Sink, call: ChatCall, interval: float
) -> Callable[[], Coroutine[None, None, None]]:
    """What is to be done after each `interval` seconds of silence.

    It sends the front's comment. Where the front has an event that says nothing new, it is sent in
    place of the comment that would be the last before a minute without any event is over.
    """
    front = call.front
    said = 0  # bytes of the call at the last event
    beats = 0  # comments since then

    async def beat() -> None:
        nonlocal said, beats
        told = front.keep_alive
        comment = told if isinstance(told, bytes) else told(call.asked, sink.started)
        if front.wake is not None:
            if call.record.bytes_out != said:
                said, beats = call.record.bytes_out, 0
            beats += 1
            if (beats + 1) * interval > _WAKE_SECONDS and (event := front.wake(call.asked)):
                comment, beats = event, 0
        if comment:
            with suppress(Exception):  # the main send will meet the same trouble and tell it
                await sink.send(comment)

    return beat
