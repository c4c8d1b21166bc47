"""Bing's own doors: its conversations, and a chat that needs no `provider`."""

import asyncio
import time
import uuid
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.auth.caller import Caller
from app.clients import read_whole
from app.config.schema import Config
from app.http.responses import App, body_of, gateway_of, headers_for, record_for
from app.http.run_chat import carry
from app.wire.chat import read_request
from app.wire.errors import GatewayError
from app.wire.renderer import JSON
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.bing import conversations, web

MESSAGE = "/bing/message"
CONVERSATION = "/bing/conversation"


def register(app: App) -> None:
    app.add_route(message, MESSAGE, methods=["POST"])
    app.add_route(create, CONVERSATION, methods=["POST"], name="create_bing")
    app.add_route(list_all, CONVERSATION, methods=["GET"], name="list_bing")
    app.add_route(delete, CONVERSATION, methods=["DELETE"], name="delete_bing")


async def message(request: Request) -> None:
    """A chat request that goes to Bing whatever its `provider` says."""
    record_for(request, MESSAGE)
    body = body_of(request, gateway_of(request).config.limits.request_bytes)
    body, envelope = read_request(body)
    await carry(request, web.PROVIDER, envelope.model or "", envelope, body)


async def create(request: Request) -> HTTPResponse:
    """A new conversation; its first turn gives it the traceId."""
    _admit(request)
    reply = await _ask(request, conversations.create_request(_config(request), _now(), _new_id))
    answer: dict[str, Any] = {
        "traceId": "",
        **msgspec.to_builtins(conversations.read_created(reply)),
    }
    return _answer(request, msgspec.json.encode(answer))


async def list_all(request: Request) -> HTTPResponse:
    _admit(request)
    reply = await _ask(request, conversations.list_request(_config(request), _now(), _new_id))
    return _answer(request, conversations.read_passed(reply))


async def delete(request: Request) -> HTTPResponse:
    _admit(request)
    config = _config(request)
    body = body_of(request, config.limits.request_bytes)
    reply = await _ask(request, conversations.delete_request(config, body, _now(), _new_id))
    return _answer(request, conversations.read_passed(reply))


def _admit(request: Request) -> None:
    """The record of a call that names no model, once the caller's token is for Bing."""
    record_for(request, CONVERSATION).provider = web.PROVIDER.name
    caller: Caller = request.ctx.caller
    caller.allow(web.PROVIDER.name, None)


async def _ask(request: Request, upstream: UpstreamRequest) -> UpstreamReply:
    request.ctx.record.attempts = 1
    gateway = gateway_of(request)
    try:
        async with asyncio.timeout(gateway.config.timeouts.first_event):
            response = await gateway.clients.open(upstream)
            return await read_whole(response, gateway.config.limits.response_bytes)
    except TimeoutError:
        raise GatewayError(
            504,
            "Bing did not answer in time.",
            code="upstream_timeout",
            outcome="upstream_timeout",
        ) from None


def _answer(request: Request, body: bytes) -> HTTPResponse:
    record = request.ctx.record
    record.status, record.outcome, record.bytes_out = 200, "complete", len(body)
    gateway_of(request).log.write(record)
    return HTTPResponse(body, 200, headers_for(request), JSON)


def _config(request: Request) -> Config:
    return gateway_of(request).config


def _now() -> int:
    return int(time.time())


def _new_id() -> str:
    return uuid.uuid4().hex
