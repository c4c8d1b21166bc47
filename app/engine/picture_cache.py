"""Cache on disk of the pictures that ChatGPT draws, in the folder `openai.image_path`.

A picture's address upstream lives for minutes; the gateway's own link lives as long as its file.
Only what is a picture by its first bytes is kept or served, under a name that cannot leave the
folder, and whole or not at all. When the folder is full, the least recently used pictures go.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from app.clients import Clients, read_whole
from app.wire.errors import GatewayError, bad_response
from app.wire.image_bytes import picture_type
from app.wire.upstream import UpstreamReply, UpstreamRequest

logger = logging.getLogger("any_proxy.images")

MAX_BYTES = 50 * 1024 * 1024  # of one picture
_DRAFT_SECONDS = 3600.0  # age of a draft whose writer must be dead
_NAME = re.compile(r"[\w-]+\Z", re.ASCII)
_DRAFT = re.compile(r"\.[\w-]+\.\d+\Z", re.ASCII)


class PictureCache:
    """The pictures in `folder`, of `max_bytes` together. All workers share the folder."""

    def __init__(self, folder: Path, clients: Clients, max_bytes: int) -> None:
        self._folder, self._clients, self._max_bytes = folder, clients, max_bytes
        # The fetches that run, by file, each with a list as long as the number of its callers.
        self._fetching: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    async def kept(self, file: str) -> bytes | None:
        """The cached picture of this (checked) name, None when there is none."""
        return await asyncio.to_thread(_read, self._folder / _name(file))

    async def fetch_once(
        self, file: str, fetch: Callable[[], Awaitable[UpstreamReply]]
    ) -> tuple[str, bytes]:
        """Media type and bytes, from disk or else by `fetch`, which one caller runs for all.

        Raises GatewayError 404, 410 or 502 for what is no picture.
        """
        lock, waiting = self._fetching.setdefault(file, (asyncio.Lock(), []))
        waiting.append(None)
        try:
            async with lock:
                body = await self.kept(file)
                if body is None:
                    body = _picture(await fetch())
                    path = self._folder / _name(file)
                    await asyncio.to_thread(_write, path, body, self._max_bytes)
        finally:
            waiting.pop()
            if not waiting:
                del self._fetching[file]
        kind = picture_type(body)
        if kind is None:
            raise bad_response(f"The kept file {file} is no picture.")
        return kind, body

    async def get(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends a request for a picture, or for its address; reads the reply up to MAX_BYTES."""
        return await read_whole(await self._clients.open(request), MAX_BYTES)


def _picture(reply: UpstreamReply) -> bytes:
    match reply.status:
        case 200:
            if picture_type(reply.body) is None:
                raise bad_response("What stands there upstream is no picture.")
            return reply.body
        case 404:
            raise not_found()
        case 401 | 403 | 410:
            raise GatewayError(
                410,
                "The picture's address upstream has expired; ask for the picture anew.",
                code="image_url_expired",
            )
    raise GatewayError(
        502, f"The picture cannot be fetched (HTTP {reply.status}).", code="upstream_error"
    )


def not_found() -> GatewayError:
    """The error 404 for a picture that does not exist."""
    return GatewayError(404, "There is no such picture.", code="image_not_found")


def _name(file: str) -> str:
    # As the Go project names them, so that its folder can be taken over.
    return file.removeprefix("file-")


def _read(path: Path) -> bytes | None:
    try:
        body = path.read_bytes()
        with suppress(OSError):  # not ours to date; it is served all the same
            os.utime(path)  # it was asked for now
        return body
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, body: bytes, max_bytes: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(body)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _evict(path.parent, max_bytes)
    except OSError as error:
        logger.error("a picture cannot be kept in %s: %s", path.parent, error.strerror)


def _evict(folder: Path, max_bytes: int) -> None:
    """Deletes the least recently used pictures until the rest fits.

    Nothing but pictures and old drafts is deleted: the folder may hold other files.
    """
    kept = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                continue
            stat = entry.stat(follow_symlinks=False)
            if _NAME.match(entry.name):
                kept.append((stat.st_mtime_ns, stat.st_size, entry.path))
            elif _DRAFT.match(entry.name) and stat.st_mtime < time.time() - _DRAFT_SECONDS:
                os.unlink(entry.path)
    used = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if used <= max_bytes:
            return
        with suppress(FileNotFoundError):  # another worker was faster
            with open(path, "rb") as file:
                is_picture = picture_type(file.read(16)) is not None
            if is_picture:
                os.unlink(path)
        used -= size
