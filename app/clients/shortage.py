"""Recognises connection failures of this machine: no descriptors or no memory left."""

import errno
import os

from app.wire.errors import OUT_OF_RESOURCES, GatewayError

_OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))


def shortage(error: BaseException) -> GatewayError | None:
    """Returns a 503 if a connection failed for lack of descriptors or memory, else None.

    Such a failure must not count against a key or an upstream. Errors of the resolver and of curl
    have no errno: then an attempt to open a file decides.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, GatewayError) and seen.code == OUT_OF_RESOURCES:
            return seen
        if isinstance(seen, MemoryError) or (isinstance(seen, OSError) and seen.errno in _OURS):
            return _ours()
        seen = seen.__cause__ or seen.__context__
    is_numbered = isinstance(error, OSError) and error.errno is not None and error.errno > 0
    return None if is_numbered or _can_open() else _ours()


def _can_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _OURS
    return True


def _ours() -> GatewayError:
    return GatewayError(
        503,
        "The gateway has no file descriptor or memory left for another connection; ask again "
        "soon. Its operator should raise the limit of open files (ulimit -n) or lower "
        "limits.in_flight.",
        code=OUT_OF_RESOURCES,
        retry_after=1,
        outcome="gateway_error",
    )
