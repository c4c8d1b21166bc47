"""Signals to the whole process group, which are the main process's business alone.

Terminals, supervisors, `timeout` and systemd send SIGTERM, SIGINT or SIGHUP to every process at
once. Whoever obeyed by itself would be missing while the open calls end. So every other process is
started with these signals blocked, a state that survives fork and exec, and leaves when the main
process sends it LEAVE or is gone.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

FOR_THE_GROUP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LEAVE = signal.SIGUSR1  # ends at once whoever does not serve yet


def block() -> None:
    """For this thread and what it starts. A signal that comes now is kept until `unblock`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_GROUP)


def unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_GROUP)


@contextmanager
def blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_GROUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
