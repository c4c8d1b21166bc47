"""The calls that a worker carries now: counted, refused when it leaves, told to end at the last."""

from app.watch import Watch, shutting_down


class OpenCalls:
    def __init__(self) -> None:
        self._watches: set[Watch] = set()
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

    def add(self, watch: Watch) -> None:
        self._watches.add(watch)

    def discard(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def end_all(self) -> None:
        """Every open call ends with an error that says so."""
        for watch in list(self._watches):
            watch.expire("shutdown")
