"""The identity of a process: its pid together with its start time.

The kernel gives a dead process's pid to a new process; the start time tells them apart. Both fit
into one integer below 2**53, which shared memory holds exactly in an 8-byte float.
"""

import os
from contextlib import suppress

_PIDS = 1 << 22  # Linux has no higher pid
_START_TIMES = 1 << 31

_own = (0, 0)  # pid and identity, cached; a forked child has another pid


def own() -> int:
    """Returns the identity of this process."""
    global _own
    pid = os.getpid()
    if _own[0] != pid:
        _own = pid, identity_of(pid)
    return _own[1]


def identity_of(pid: int) -> int:
    """Returns the identity of the process with this pid, 0 for none or a zombie."""
    started = _start_time(pid)
    return 0 if started is None else started % _START_TIMES * _PIDS + pid


def alive(identity: int) -> bool:
    """Whether the process with this identity still runs."""
    return identity > 0 and identity_of(pid_of(identity)) == identity


def pid_of(identity: int) -> int:
    """Returns the pid in an identity."""
    return identity % _PIDS


def _start_time(pid: int) -> int | None:
    """The start time in clock ticks since boot; None for no process or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        if not os.path.exists("/proc/self/stat"):  # no procfs: the pid alone must do
            with suppress(OSError):
                os.kill(pid, 0)
                return 0
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
