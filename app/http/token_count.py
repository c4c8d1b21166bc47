"""Counts of a prompt's tokens, asked of the upstream that the request names."""

import asyncio
import os
from collections.abc import Callable
from time import time

from sanic import Request

from app.auth.caller import Caller
from app.auth.credentials import callers_own, check_house
from app.clients import read_whole
from app.engine.call import Target, credential_headers
from app.http.responses import gateway_of
from app.pool.lease import Lease
from app.telemetry.call_log import CallRecord
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.errors import GatewayError
from app.wire.front import Front
from app.wire.provider import Call, Key, Wire

_MOST_BYTES = 64 * 1024


def check_caller(request: Request, front: Front, target: Target) -> str:
    """Notes who is asked, and returns the caller's own key for it, "" for none.

    Raises GatewayError for a caller who may not ask this upstream or this model.
    """
    record: CallRecord = request.ctx.record
    caller: Caller = request.ctx.caller
    record.provider, record.model = target.provider.name, target.model[:128]
    record.front = front.name
    own = callers_own(request.headers, credential_headers(front, target))
    if own:
        check_house(own, target.provider.family, front.house)
    else:
        caller.need_keys()
    caller.allow(target.provider.family, target.alias or target.model)
    return own


async def counted_upstream(
    request: Request,
    wire: Wire,
    read: Callable[[Asked], ChatRequest] | None,
    asked: Asked,
    target: Target,
    own: str,
) -> int | None:
    """The tokens as the upstream counts them; None where it does not, or fails.

    `wire` is the caller's, of which `read` makes the neutral request. A count that fails says
    nothing about the key that asked.
    """
    gateway, provider = gateway_of(request), target.provider
    count = provider.count
    if count is None:
        return None
    lease: Lease | None = None
    try:
        async with asyncio.timeout(count.seconds):
            same_wire = provider.native is not None and provider.native.wire == wire
            if same_wire:
                assert provider.native is not None
                chat = provider.native.read(asked)
            else:
                assert read is not None
                chat = provider.read(read(asked), asked)
            lease = Lease(Key(provider.pool, "", own)) if own else gateway.pool.pick(provider.pool)
            call = Call(
                config=gateway.config,
                asked=asked,
                chat=chat,
                key=lease.key,
                model=target.model,
                stream=False,
                headers=request.headers,
                now=int(time()),
                new_id=lambda: os.urandom(16).hex(),
            )
            response = await gateway.clients.open(count.request(call))
            reply = await read_whole(response, _MOST_BYTES)
    except (GatewayError, TimeoutError):
        return None
    finally:
        if lease is not None:
            gateway.pool.release(lease)
    return count.read(reply) if reply.status == 200 else None
