"""The identity of a process: pid and start time."""

import os
import subprocess
import sys

from app.state.process_identity import alive, identity_of, own


def test_a_process_is_its_number_and_its_beginning():
    assert own() == identity_of(os.getpid()) and alive(own())
    assert float(own()) == own() < 2**53  # shared memory keeps it as a float
    other = own() + 2**22  # the same number, begun at another time
    assert not alive(other)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert identity_of(gone.pid) == 0
    assert not alive(0) and not alive(gone.pid)


def test_one_that_is_dead_but_not_buried_does_not_live():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(process.pid)
    assert alive(identity)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(identity)
    process.communicate()
