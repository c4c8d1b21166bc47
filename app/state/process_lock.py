"""A lock between processes on one byte of a file. The kernel releases it when its holder dies."""

import fcntl
import time
from types import TracebackType


class ProcessLock:
    """Use it in a `with` statement.

    The lock is held for microseconds, unless its holder was stopped (SIGSTOP) while it held it.
    After `wait_seconds` the caller therefore goes on without the lock: a second probe or one call
    too many is better than a blocked process.
    """

    def __init__(
        self,
        descriptor: int,
        offset: int = 0,
        *,
        wait_seconds: float = 0.0,
        poll_seconds: float = 0.0,
    ) -> None:
        self._descriptor, self._offset = descriptor, offset
        self._wait_seconds, self._poll_seconds = wait_seconds, poll_seconds

    def acquire_now(self) -> bool:
        """Takes the lock if no other process holds it. True if this process holds it now."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._offset)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Releases the lock; does nothing when this process does not hold it."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._offset)

    def __enter__(self) -> None:
        end = 0.0
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._offset)
                return
            except OSError:
                now = time.monotonic()
                end = end or now + self._wait_seconds
                if now >= end:
                    return
                time.sleep(self._poll_seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._offset)
