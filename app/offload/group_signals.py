"""Blocks signals to the process group in every process but the main one.

Terminals, supervisors, `timeout` and systemd send SIGTERM, SIGINT or SIGHUP to every process of the
group. A worker that obeyed would end its open calls, while the main process drains. So every other
process is started with these signals blocked, a state that survives fork and exec. It exits when
the main process sends LEAVE or is gone.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

FOR_THE_GROUP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LEAVE = signal.SIGUSR1  # a process that does not serve yet is ended by it at once


def block() -> None:
    """Blocks the signals in this thread and all it starts. They stay pending until `unblock`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_GROUP)


def unblock() -> None:
    """Unblocks the signals in this thread; pending ones are delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_GROUP)


@contextmanager
def blocked() -> Iterator[None]:
    """A context in which the signals are blocked, for starting processes in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_GROUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
