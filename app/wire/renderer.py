"""What turns an upstream's answer into bytes for the caller."""

from typing import Protocol

from app.wire.errors import GatewayError
from app.wire.events import Follow, Reply, Usage
from app.wire.stream_start import Stage

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"


class Renderer(Protocol):
    """One answer on its way to the caller. Every attribute is always there."""

    content_type: str  # of the whole answer or the stream
    commands: list[Follow | Reply]  # what the engine must do before it reads on
    ended: bool  # the answer is whole, whatever the connection does
    refused: bool  # an error was told to the caller inside a 200
    error: GatewayError | None  # which one, where the answer was passed on as it came
    unknown: list[str]  # event types that this gateway does not know

    @property
    def usage(self) -> Usage | None:
        """The token counts that the upstream has told so far."""

    def labelled(self, content_type: str) -> None:
        """Takes the upstream's content type, before `feed`. Never called where there is none."""

    def feed(self, data: bytes) -> bytes:
        """Takes one upstream read and returns what to send now.

        Raises GatewayError for a broken answer.
        """

    def opening(self, out: bytes) -> Stage:
        """How far the stream has come with `out`, as long as nothing was said.

        Raises GatewayError for an error in place of an answer.
        """

    def finish(self, *, is_cut: bool = False) -> bytes:
        """Takes the end of the body and returns the last bytes. `is_cut`: the connection broke.

        Raises `upstream_cut` when the answer was not whole.
        """
