"""The open calls of a worker: counted, refused during shutdown, ended when its time is over."""

from collections.abc import Callable

from app.engine.deadline import Deadline, shutting_down


class OpenCalls:
    """The open calls of a worker, each known by its deadline.

    `show` is called at each change with the number of calls and the number of streams among them.
    """

    def __init__(self, show: Callable[[int, int], None] = lambda calls, streams: None) -> None:
        self._deadlines: dict[Deadline, bool] = {}  # whether it is a stream
        self._streams = 0
        self._show = show
        self._refusing = False

    def __len__(self) -> int:
        return len(self._deadlines)

    def refuse(self) -> None:
        """Refuses new calls with 503 `shutting_down` from now on."""
        self._refusing = True

    def check(self) -> None:
        """Raises GatewayError 503 when no new call may begin."""
        if self._refusing:
            raise shutting_down()

    def add(self, deadline: Deadline, is_stream: bool = False) -> None:
        """Counts a call that begins."""
        self._deadlines[deadline] = is_stream
        self._streams += is_stream
        self._show(len(self._deadlines), self._streams)

    def discard(self, deadline: Deadline) -> None:
        """Takes a call that has ended out of the count."""
        self._streams -= self._deadlines.pop(deadline, False)
        self._show(len(self._deadlines), self._streams)

    def end_all(self) -> None:
        """Ends every open call with the error `shutting_down`."""
        for deadline in list(self._deadlines):
            deadline.expire("shutdown")
