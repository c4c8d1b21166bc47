"""The fork server: a small process that has imported the gateway and forks each worker.

A worker that is started by a fork serves after a few milliseconds and shares the imported code with
the others. Started as a new interpreter (Sanic's default, "spawn") it would import everything
again, a second of CPU each, also after a crash and for each reload. The main process itself is not
forked: it has threads and open pipes. See "forkserver" in Python's multiprocessing.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from app.offload import group_signals

_ROOT = str(Path(__file__).parents[2])
_PRELOADED = ["app.process.server"]


def start() -> None:
    """Starts the fork server, which imports the gateway in the background.

    Before the main process imports it too: then both do so at the same time. Does nothing if the
    fork server runs. Group signals are blocked in the fork server, and so in all its children.
    """
    # Inherited: a terminal's hangup must end neither the resource tracker nor the fork server.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # First: when it starts, it unblocks the signals that are blocked next.
    resource_tracker.ensure_running()
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(_PRELOADED)
    with group_signals.blocked(), _importable():
        forkserver.ensure_running()


@contextmanager
def _importable() -> Iterator[None]:
    """Lets the fork server import this gateway and nothing of the working directory.

    Python 3.11 gives it no `sys.path`, only the environment, and the directory would come first.
    """
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    wanted = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
