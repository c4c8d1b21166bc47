"""Tells callers of a wrong address the right base URL: /, and other vendors' usual paths."""

import re

from sanic import HTTPResponse, Request

from app.http.responses import METHODS, App, json_answer, public_address
from app.wire.errors import GatewayError

_ANTHROPICS = "/v1/messages"
_GOOGLES = ("/v1alpha", "/v1beta")
_OPENAIS = re.compile(r"/(?:chat/completions|completions|responses|embeddings|models)/?\Z").search
_MESSAGES = re.compile(r"(/v1)?/messages(?:/count_tokens)?/?\Z").search
_FINAL = (("x-should-retry", "false"),)


def register(app: App) -> None:
    """Adds the routes of this module."""
    # No upstream is called, so no key is needed; access tokens are, where configured.
    app.add_route(landing, "/", methods=["GET", "HEAD"], ctx_own_credential=True)
    for path in (_ANTHROPICS, _ANTHROPICS + "/<path:path>"):
        name = "wrong" + re.sub(r"\W", "_", path)
        app.add_route(anthropics, path, methods=METHODS, name=name, ctx_own_credential=True)
    for prefix in _GOOGLES:
        name = "wrong" + prefix.replace("/", "_")
        path = prefix + "/<path:path>"
        app.add_route(googles, path, methods=METHODS, name=name, ctx_own_credential=True)


async def landing(request: Request) -> HTTPResponse:
    """Names the gateway and the base URL for each SDK."""
    here = public_address(request)
    return json_answer(
        request,
        {
            "name": "any-proxy",
            "what": "A gateway to AI chats: one API in front of several providers.",
            "openai": {
                "base_url": f"{here}/c/v1",
                "chat": "/c/v1/chat/completions",
                "models": "/c/v1/models",
                "all_else": f"{here}/v1",
            },
            "anthropic": {
                "base_url": f"{here}/c",
                "messages": "/c/v1/messages",
                "all_else": f"{here}/claude/api",
            },
            "google-genai": {
                "base_url": f"{here}/c",
                "models": "/c/v1beta/models",
                "all_else": f"{here}/gemini",
            },
            "console": f"{here}/admin/",
            "docs": f"{here}/docs",
            "openapi": f"{here}/openapi.json",
        },
    )


async def anthropics(request: Request, path: str = "") -> HTTPResponse:
    """Raises GatewayError 501 with the base URL for Anthropic's SDKs."""
    raise _wrong_address(request, "Anthropic's Messages API", "/c")


async def googles(request: Request, path: str) -> HTTPResponse:
    """Raises GatewayError 501 with the base URL for Google's SDKs."""
    raise _wrong_address(request, "The Gemini API", "/c")


def _wrong_address(request: Request, what: str, prefix: str) -> GatewayError:
    # 501, because Claude Code does not show the message of a 404.
    return GatewayError(
        501,
        f"{what} is not at this address: set the client's base URL to "
        f"{public_address(request)}{prefix}",
        code="wrong_address",
        headers=_FINAL,
    )


def advice(request: Request) -> str:
    """A hint to add to the message of a 404; "" where there is none."""
    here = public_address(request)
    if _OPENAIS(request.path):
        return f" OpenAI's clients take {here}/c/v1 as their base URL."
    if messages := _MESSAGES(request.path):
        # Anthropic's SDKs add /v1/messages to it, others add only /messages.
        rest, base = ("/v1/messages", "/c") if messages[1] else ("/messages", "/c/v1")
        return f" Clients that add {rest} take {here}{base} as their base URL."
    return ""
