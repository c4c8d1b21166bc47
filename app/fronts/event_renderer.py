"""What every renderer of events shares, whichever API it writes: the state that the engine looks
at, and the events that put nothing into an answer."""

from app.wire.errors import GatewayError
from app.wire.events import End, Event, Follow, Reply, Unknown, Usage
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.stream_start import Stage


class EventRenderer:
    """The members of `Renderer` that need no word of an API."""

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        self.decoder = decoder
        self.usage: Usage | None = None
        self.commands: list[Follow | Reply] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self.unknown: list[str] = []
        self.said = False  # something of the answer itself

    def labelled(self, content_type: str) -> None:
        """The decoder judges by the bytes."""

    def opening(self, out: bytes) -> Stage:
        """Whether text, thinking, a call or an end was said."""
        return Stage.SAID if self.said else Stage.BEGUN

    def aside(self, event: Event) -> None:
        """Takes the events that put nothing into the answer."""
        match event:
            case Usage():
                self.usage = event
            case Follow() | Reply():
                self.commands.append(event)
            case End():
                self.ended = True
            case Unknown():
                self.unknown.append(event.name)
