"""The calls that a worker carries now: counted, refused when it leaves, told to end at the last."""

from collections.abc import Callable

from app.engine.deadline import Deadline, shutting_down


class OpenCalls:
    """`show` is told how many there are, and how many of them are streams, at each change."""

    def __init__(self, show: Callable[[int, int], None] = lambda calls, streams: None) -> None:
        self._watches: dict[Deadline, bool] = {}  # whether it is a stream
        self._streams = 0
        self._show = show
        self._refusing = False

    def __len__(self) -> int:
        return len(self._watches)

    def refuse(self) -> None:
        """From now on a new call gets 503 `shutting_down`."""
        self._refusing = True

    def check(self) -> None:
        """Raises GatewayError when no new call may begin."""
        if self._refusing:
            raise shutting_down()

    def add(self, watch: Deadline, is_stream: bool = False) -> None:
        self._watches[watch] = is_stream
        self._streams += is_stream
        self._show(len(self._watches), self._streams)

    def discard(self, watch: Deadline) -> None:
        self._streams -= self._watches.pop(watch, False)
        self._show(len(self._watches), self._streams)

    def end_all(self) -> None:
        """Every open call ends with an error that says so."""
        for watch in list(self._watches):
            watch.expire("shutdown")
