"""How many calls one session serves at a time, counted across all workers.

A lease is a lock on a small file. The system frees it when its holder ends, however it ends, so
that a killed worker never keeps a session busy.
"""

import fcntl
import os
from hashlib import blake2b
from pathlib import Path

from app.wire.provider import Key


class Lease:
    def __init__(self, descriptor: int = -1) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Leases:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = False

    def take(self, key: Key) -> Lease | None:
        """A lease on the key, None when as many calls as it may serve are under way."""
        most = limit(key)
        if most <= 0:
            return Lease()
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._made = True
        name = blake2b(f"{key.pool}/{key.id}".encode(), digest_size=12).hexdigest()
        for place in range(most):
            path = self._folder / f"{name}.{place}"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            except BaseException:
                os.close(descriptor)
                raise
            return Lease(descriptor)
        return None


def limit(key: Key) -> int:
    """How many calls a key may serve at once; 0 for any number."""
    text = key.fields.get("max_concurrent", "") if key.id else ""
    return int(text) if text.isdecimal() else 0
