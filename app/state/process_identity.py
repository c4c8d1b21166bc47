"""Which process it is: its number together with when it began.

The system gives a dead process's number to a new one. Both fit into one number that shared memory
holds exactly, as an 8-byte float too.
"""

import os
from contextlib import suppress

_PIDS = 1 << 22  # Linux gives no higher number
_BEGINNINGS = 1 << 31

_own = (0, 0)  # of which process, and its identity: a forked child has another


def own() -> int:
    """This process."""
    global _own
    pid = os.getpid()
    if _own[0] != pid:
        _own = pid, identity_of(pid)
    return _own[1]


def identity_of(pid: int) -> int:
    """0 when there is no such process, or when it is dead but not yet buried."""
    beginning = _beginning(pid)
    return 0 if beginning is None else beginning % _BEGINNINGS * _PIDS + pid


def alive(identity: int) -> bool:
    """Whether this very process still lives."""
    return identity > 0 and identity_of(pid_of(identity)) == identity


def pid_of(identity: int) -> int:
    return identity % _PIDS


def _beginning(pid: int) -> int | None:
    """In the kernel's ticks since it started; None for no process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        if not os.path.exists("/proc/self/stat"):  # a system without it: the number alone must do
            with suppress(OSError):
                os.kill(pid, 0)
                return 0
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
