"""One request to an upstream, answered whole: no failover, no stream."""

import asyncio
from typing import Any

from sanic import HTTPResponse, Request

from app.clients import read_whole
from app.http.responses import gateway_of, headers_for
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest


async def passed(request: Request, upstream: UpstreamRequest) -> HTTPResponse:
    request.ctx.record.attempts = 1
    gateway = gateway_of(request)
    try:
        async with asyncio.timeout(gateway.config.timeouts.first_event):
            response = await gateway.clients.open(upstream)
            reply = await read_whole(response, gateway.config.limits.response_bytes)
    except TimeoutError:
        raise GatewayError(
            504, "OpenAI's platform did not answer in time.", code="upstream_timeout"
        ) from None
    kind = reply.headers.get("content-type", "application/json")
    return logged(request, HTTPResponse(reply.body, reply.status, headers_for(request), kind))


def logged(request: Request, response: HTTPResponse) -> HTTPResponse:
    record = request.ctx.record
    body: Any = response.body or b""
    record.status, record.bytes_out = response.status, len(body)
    record.outcome = "complete" if response.status < 400 else "upstream_error"
    gateway_of(request).log.write(record)
    return response
