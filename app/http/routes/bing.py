"""Bing's own routes: /bing/conversation, and /bing/message, a chat that needs no `provider`."""

import time
import uuid
from typing import Any

import msgspec
from sanic import HTTPResponse, Request

from app.auth.caller import Caller
from app.config.schema import Config
from app.http.ask_once import ask_once, logged
from app.http.responses import App, body_of, gateway_of, headers_for, record_for
from app.wire.renderer import JSON
from providers.bing import conversations

CONVERSATION = "/bing/conversation"
_PROVIDER = "bing"
_NAME = "Bing"  # in error messages


def register(app: App) -> None:
    """Adds the routes of this module."""
    app.add_route(create, CONVERSATION, methods=["POST"], name="create_bing")
    app.add_route(list_all, CONVERSATION, methods=["GET"], name="list_bing")
    app.add_route(delete, CONVERSATION, methods=["DELETE"], name="delete_bing")


async def create(request: Request) -> HTTPResponse:
    """Creates a conversation; its first turn gives it the traceId."""
    _admit(request)
    reply = await ask_once(
        request, conversations.create_request(_config(request), _now(), _new_id), _NAME
    )
    answer: dict[str, Any] = {
        "traceId": "",
        **msgspec.to_builtins(conversations.read_created(reply)),
    }
    return _answer(request, msgspec.json.encode(answer))


async def list_all(request: Request) -> HTTPResponse:
    """Lists the conversations of the cookie, as Bing answers."""
    _admit(request)
    reply = await ask_once(
        request, conversations.list_request(_config(request), _now(), _new_id), _NAME
    )
    return _answer(request, conversations.read_passed(reply))


async def delete(request: Request) -> HTTPResponse:
    """Deletes the conversation that the body names."""
    _admit(request)
    config = _config(request)
    body = body_of(request, config.limits.request_bytes)
    reply = await ask_once(
        request, conversations.delete_request(config, body, _now(), _new_id), _NAME
    )
    return _answer(request, conversations.read_passed(reply))


def _admit(request: Request) -> None:
    """Starts the log record and checks that the caller's token is for Bing; no model is named."""
    record_for(request, CONVERSATION).provider = _PROVIDER
    caller: Caller = request.ctx.caller
    caller.allow(_PROVIDER, None)


def _answer(request: Request, body: bytes) -> HTTPResponse:
    return logged(request, HTTPResponse(body, 200, headers_for(request), JSON))


def _config(request: Request) -> Config:
    return gateway_of(request).config


def _now() -> int:
    return int(time.time())


def _new_id() -> str:
    return uuid.uuid4().hex
