"""Pictures that ChatGPT drew: fetched once, kept under `image_path`, served from there.

A picture's address upstream lives for minutes; the gateway's own link lives as long as its file.
Only what is a picture by its first bytes is kept or served, under a name that cannot leave the
folder, and whole or not at all.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from app.clients import Clients, read_whole
from app.wire.errors import GatewayError, bad_response
from app.wire.images import picture_type
from app.wire.upstream import UpstreamReply, UpstreamRequest

logger = logging.getLogger("any_proxy.images")

MAX_BYTES = 50 * 1024 * 1024


class Images:
    """`fetch_once` keeps two callers of one picture from fetching it twice in one worker."""

    def __init__(self, folder: Path, clients: Clients) -> None:
        self._folder, self._clients = folder, clients
        self._coming: dict[str, tuple[asyncio.Lock, list[None]]] = {}  # and who waits for it

    async def kept(self, file: str) -> bytes | None:
        """The picture of this (checked) name, None when it was never fetched."""
        return await asyncio.to_thread(_read, self._folder / _name(file))

    async def fetch_once(
        self, file: str, fetch: Callable[[], Awaitable[UpstreamReply]]
    ) -> tuple[str, bytes]:
        """Media type and bytes, from disk or by `fetch`. Raises GatewayError for neither."""
        lock, waiting = self._coming.setdefault(file, (asyncio.Lock(), []))
        waiting.append(None)
        try:
            async with lock:
                body = await self.kept(file)
                if body is None:
                    body = _picture(await fetch())
                    await asyncio.to_thread(_write, self._folder / _name(file), body)
        finally:
            waiting.pop()
            if not waiting:
                del self._coming[file]
        kind = picture_type(body)
        if kind is None:
            raise bad_response(f"The kept file {file} is no picture.")
        return kind, body

    async def get(self, request: UpstreamRequest) -> UpstreamReply:
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
    return GatewayError(404, "There is no such picture.", code="image_not_found")


def _name(file: str) -> str:
    # As the Go project names them, so that its folder can be taken over.
    return file.removeprefix("file-")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, body: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(body)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        logger.error("a picture cannot be kept in %s: %s", path.parent, error.strerror)
