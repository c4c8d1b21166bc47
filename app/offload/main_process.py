"""The main process, as its children see it."""

from multiprocessing import parent_process


def is_alive() -> bool:
    """Whether the main process lives, asked in a process that it started through multiprocessing.

    By a pipe, not by the parent's pid: the system's parent of a worker is the fork server.
    """
    main = parent_process()
    return main is not None and main.is_alive()
