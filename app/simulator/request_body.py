"""Reads request bodies: the model a JSON body names, and bodies that arrive in pieces."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from sanic import Request

from app.simulator.ledger import record_of


def model_in(body: Any) -> str:
    """The `model` member of a decoded JSON body; "" when there is none or it is no string."""
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else ""


async def streamed_body(request: Request) -> AsyncIterator[bytes]:
    """The body of a route with stream=True, piece by piece; its size and hash are recorded."""
    record, digest = record_of(request), hashlib.sha256()
    while (piece := await request.stream.read()) is not None:  # type: ignore[union-attr]
        digest.update(piece)
        record.body_bytes += len(piece)
        yield piece
    record.body_sha256 = digest.hexdigest()
