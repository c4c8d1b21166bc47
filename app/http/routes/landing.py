"""What somebody hears who asks at the wrong address: what this is, and where the right one is."""

import re

from sanic import HTTPResponse, Request

from app.http.responses import METHODS, App, json_answer, public_address
from app.wire.errors import GatewayError

_ANTHROPICS = ("/v1/messages", "/c/v1/messages")
_GOOGLES = ("/v1alpha", "/v1beta", "/c/v1alpha", "/c/v1beta")
_OPENAIS = re.compile(r"/(?:chat/completions|completions|responses|embeddings)/?\Z").search
_FINAL = (("x-should-retry", "false"),)


def register(app: App) -> None:
    # Nobody is asked: no credential is needed but for the lock's.
    app.add_route(landing, "/", methods=["GET", "HEAD"], ctx_own_credential=True)
    for prefix in _ANTHROPICS:
        for path in (prefix, prefix + "/<path:path>"):
            name = "wrong" + re.sub(r"\W", "_", path)
            app.add_route(anthropics, path, methods=METHODS, name=name, ctx_own_credential=True)
    for prefix in _GOOGLES:
        name = "wrong" + prefix.replace("/", "_")
        path = prefix + "/<path:path>"
        app.add_route(googles, path, methods=METHODS, name=name, ctx_own_credential=True)


async def landing(request: Request) -> HTTPResponse:
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
            "anthropic": {"base_url": f"{here}/claude/api"},
            "google-genai": {"base_url": f"{here}/gemini"},
            "docs": "README.md and docs/api.md, beside the program",
        },
    )


async def anthropics(request: Request, path: str = "") -> HTTPResponse:
    raise _elsewhere(request, "Anthropic's Messages API", "/claude/api")


async def googles(request: Request, path: str) -> HTTPResponse:
    raise _elsewhere(request, "The Gemini API", "/gemini")


def _elsewhere(request: Request, what: str, prefix: str) -> GatewayError:
    # 501, for Claude Code prints the text of no 404.
    return GatewayError(
        501,
        f"{what} is not at this address: set the client's base URL to "
        f"{public_address(request)}{prefix}",
        code="wrong_address",
        headers=_FINAL,
    )


def advice(request: Request) -> str:
    """What to say beside a 404, "" where no idea helps."""
    if not _OPENAIS(request.path):
        return ""
    return f" OpenAI's clients take {public_address(request)}/c/v1 as their base URL."
