"""Every front, and whose shape an error has that comes before a request has found its route."""

from collections.abc import Callable, Sequence

from app.fronts import chatgpt_web
from app.fronts.anthropic import errors as anthropic
from app.fronts.anthropic.front import front as messages
from app.fronts.gemini import errors as gemini
from app.fronts.gemini.front import fronts as google
from app.fronts.gemini.request import METHODS
from app.fronts.openai_chat import errors as openai
from app.fronts.openai_chat.front import door, front
from app.fronts.openai_endpoints.front import fronts as endpoint_fronts
from app.fronts.openai_responses import errors as responses
from app.fronts.openai_responses.front import front as responses_front
from app.wire.errors import GatewayError
from app.wire.front import Front, Route

ErrorBody = Callable[[GatewayError, str], bytes]  # of the error and our id of the request


def fronts(families: Sequence[str]) -> tuple[Front, ...]:
    """All fronts. `families` name the gateway's own members of a body."""
    chat = front(families)
    claude = Route("/claude/api/openai", provider="claude")
    gemini_door = Route("/gemini/openai", provider="gemini")
    return (
        chat,
        responses_front(families),
        messages(families),
        door(chat, "claude-openai", "anthropic", claude, "x-api-key"),
        *google(families),
        door(chat, "gemini-openai", "gemini", gemini_door),
        *chatgpt_web.fronts(chat),
        *endpoint_fronts(chat),
    )


# The first prefix that fits says the shape; OpenAI's is everybody else's. A door whose answers are
# OpenAI's refuses as OpenAI.
_SHAPES: tuple[tuple[str, ErrorBody], ...] = (
    ("/claude/api/openai", openai.error_body),
    ("/claude/api", anthropic.forward_error_body),
    ("/gemini/openai", openai.error_body),
    ("/gemini/v1/openai", openai.error_body),
    ("/gemini/v1alpha/openai", openai.error_body),
    ("/gemini/v1beta/openai", openai.error_body),
    ("/gemini", gemini.forward_error_body),
    # A vendor's own client with a wrong base URL.
    ("/v1/messages", anthropic.forward_error_body),
    ("/c/messages", anthropic.forward_error_body),
    ("/c/v1/messages", anthropic.error_body),
    ("/c/v1/responses", responses.error_body),
    ("/c/api", anthropic.error_body),
    ("/v1alpha", gemini.error_body),
    ("/v1beta", gemini.error_body),
    ("/c/v1alpha", gemini.error_body),
    ("/c/v1beta", gemini.error_body),
    ("/c/upload", gemini.error_body),
)
# Of a model, below a prefix that other APIs have, too.
_GOOGLES_METHODS = tuple(f":{method}" for method in METHODS)


def error_body_of(path: str) -> ErrorBody:
    """How the callers of this path read an error of the gateway's own."""
    for prefix, shape in _SHAPES:
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return shape
    if path.startswith("/c/v1/") and path.endswith(_GOOGLES_METHODS):
        return gemini.error_body
    return openai.error_body
