"""One request to an upstream, answered whole: no failover between keys, no stream."""

import asyncio
from typing import Any

from sanic import HTTPResponse, Request

from app.clients import read_whole
from app.http.responses import gateway_of
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamReply, UpstreamRequest


async def ask_once(request: Request, upstream: UpstreamRequest, name: str) -> UpstreamReply:
    """The upstream's whole reply, whatever its status.

    Raises GatewayError 504, with `name` for the upstream, after timeouts.first_event, and what the
    client raises.
    """
    request.ctx.record.attempts = 1
    gateway = gateway_of(request)
    try:
        async with asyncio.timeout(gateway.config.timeouts.first_event):
            response = await gateway.clients.open(upstream)
            return await read_whole(response, gateway.config.limits.response_bytes)
    except TimeoutError:
        raise GatewayError(
            504,
            f"{name} did not answer in time.",
            code="upstream_timeout",
            outcome="upstream_timeout",
        ) from None


def logged(request: Request, response: HTTPResponse) -> HTTPResponse:
    """`response`, once the log line of the call is written with its status and size."""
    record = request.ctx.record
    body: Any = response.body or b""
    record.status, record.bytes_out = response.status, len(body)
    record.outcome = "complete" if response.status < 400 else "upstream_error"
    gateway_of(request).log.write(record)
    return response
