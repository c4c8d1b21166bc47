"""A token's `providers` and `models` hold on every route: asked of the router itself."""

import re

import httpx
import pytest
from sanic import Sanic

from app.config.schema import Config
from app.process.server import create_app
from app.wire.endpoints import FORMS
from tests.server.running import running

# Two tokens that no route with a provider may let in: Coze has no route of its own.
COZE, NOTHING = "coze-0123456789-token", "nothing-0123456789-token"

# Nobody is asked anything on these: they answer by themselves, or refuse everybody.
NEED_NO_PROVIDER = {
    "/",
    "/ping",
    "/healthz",
    "/readyz",
    "/auth/token/web",
    "/arkose/token/<pk:path>",
    "/arkose/solve/<pk:path>",
    "/v1/messages",
    "/v1/messages/<path:path>",
    "/v1alpha/<path:path>",
    "/v1beta/<path:path>",
    "/c",
    "/c/api/hello",
    "/docs",
    "/docs/rapidoc.js",
    "/openapi.json",
}
# These say where on this gateway the asked thing is.
ELSEWHERE = {
    "/c/v1alpha/<target:path>",
    "/c/v1beta/<target:path>",
    "/c/upload/<target:path>",
    *(
        f"/c/v1/{name}{rest}"
        for name in ("containers", "conversations", "files", "prompts", "vector_stores")
        for rest in ("", "/<rest:path>")
    ),
}
# Answers of the caller's own that were kept: nobody else's are found.
KEPT = {f"/c/v1/responses/<id:str>{rest}" for rest in ("", "/cancel", "/input_items")}
# `admin.token` and a picture's signed link, no token of a caller's.
OWN_LOCK = {
    "/metrics",
    "/admin",
    "/admin/state",
    "/admin/requests/<wanted:str>",
    "/admin/keys",
    "/admin/tokens",
    "/admin/reload",
    "/admin/usage",
    "/admin/calls",
    "/admin/console/<path:path>",
    "/admin/session",
    "/admin/events",
    "/admin/series",
    "/admin/config",
    "/admin/playground/<path:path>",
    "/gptimage/<path:path>",
}
# The caller's own use, whatever it was of.
OWN_USE = {"/c/v1/usage"}
# What the token is not for is left out of the answer.
LISTS = {
    "/c/v1/models",
    *(
        f"/c/{version}/models{rest}"
        for version in ("v1", "v1alpha", "v1beta")
        for rest in ("", "/<target:path>")
    ),
}
# Google's: POST MODEL:METHOD, where the path says which model.
GOOGLES = ("/c/v1/<target:path>", "/c/v1/models/<target:path>", "/c/v1beta/models/<target:path>")


def routes():
    app = create_app(Config())
    try:
        return sorted(
            (method, "/" + re.sub(r"<__(\w+):", r"<\1:", route.path).rstrip("/"))
            for route in app.router.routes
            for method in route.methods
        )
    finally:
        Sanic.unregister_app(app)


ROUTES = routes()
# Without an Upgrade nothing is asked; with one the model stands in the query or in the messages,
# see test_websockets.
SOCKETS = {"/c/v1/realtime", "/c/ws/<path:path>", "/c//ws/<path:path>"}
UNGUARDED = (
    SOCKETS | NEED_NO_PROVIDER | OWN_LOCK | OWN_USE | LISTS | ELSEWHERE | KEPT | set(GOOGLES)
)
GUARDED = [
    each for each in ROUTES if each[1] not in UNGUARDED and each != ("GET", "/c/v1/responses")
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Every upstream is nobody: a request that gets that far is told by its 502."""
    nobody, key = "http://127.0.0.1:1", [{"id": "1", "val": "a-key-of-the-pool"}]
    config = {
        "openai": {
            "api_url": nobody,
            "auth_url": nobody,
            "chat_web_url": nobody,
            "api_keys": key,
        },
        "claude": {"api_url": nobody, "web_url": nobody, "api_keys": key},
        "google_gemini": {"api_url": nobody, "api_keys": key},
        "bing": {"web_url": nobody},
        "upstreams": [{"name": "x", "api_url": f"{nobody}/v1", "api_keys": key}],
        "access": {
            "tokens": [
                {"id": "coze", "val": COZE, "providers": ["coze"]},
                {"id": "nothing", "val": NOTHING, "models": ["no-such-model"]},
            ]
        },
    }
    with running(tmp_path_factory.mktemp("guarded"), config) as gateway:
        yield gateway


def test_the_lists_name_routes_that_exist():
    assert {path or "/" for _, path in ROUTES} >= UNGUARDED
    assert len(GUARDED) > 60


def ask(gateway, method, path, token, own="sk-own", **options):
    target = re.sub(r"<\w+:\w+>", "x", path)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    if path.removeprefix("/c/v1/") in FORMS:
        options = {"data": {"model": "gpt-4o"}, "files": {"file": ("a.wav", b"RIFF")}}
    options = options or ({"json": body} if method in ("POST", "PUT", "PATCH") else {})
    return httpx.request(
        method,
        gateway.url + target,
        headers={"x-access-token": token, "authorization": f"Bearer {own}"},
        timeout=20,
        **options,
    )


@pytest.mark.parametrize("token", [COZE, NOTHING])
def test_every_route_with_a_provider_refuses_a_token_that_is_not_for_it(guarded, token):
    let_in = []
    for method, path in GUARDED:
        answer = ask(guarded, method, path, token)
        if (answer.status_code, answer.headers.get("x-gateway-error")) != (403, "not_allowed"):
            let_in.append((method, path, answer.status_code, answer.text[:80]))
    assert not let_in


@pytest.mark.parametrize("token", [COZE, NOTHING])
@pytest.mark.parametrize("path", GOOGLES)
def test_googles_paths_look_at_the_model_in_them(guarded, token, path):
    for method in ("generateContent", "streamGenerateContent", "countTokens", "embedContent"):
        asked = re.sub("<.*>", f"models/gemini-2.5-flash:{method}", path).replace(
            "models/models", "models"
        )
        answer = ask(guarded, "POST", asked, token, own="AIzaSy-own")
        assert (answer.status_code, answer.headers["x-gateway-error"]) == (403, "not_allowed")


@pytest.mark.parametrize("path", sorted(ELSEWHERE | KEPT))
def test_what_is_elsewhere_or_another_callers_is_not_found(guarded, path):
    for method in [method for method, at in ROUTES if at == path]:
        assert ask(guarded, method, path, COZE).status_code == 404


@pytest.mark.parametrize("provider", ["openai", "openai-chat-web", "claude", "gemini", "bing"])
def test_the_chat_looks_at_the_provider_that_would_answer(guarded, provider):
    body = {"model": "x", "messages": [], "provider": provider}
    answer = ask(guarded, "POST", "/c/v1/chat/completions", COZE, json=body)
    assert (answer.status_code, answer.headers["x-gateway-error"]) == (403, "not_allowed")
    body = {"model": f"{provider}/x", "messages": []}
    answer = ask(guarded, "POST", "/c/v1/chat/completions", COZE, json=body)
    assert (answer.status_code, answer.headers["x-gateway-error"]) == (403, "not_allowed")


@pytest.mark.parametrize("path", sorted(NEED_NO_PROVIDER))
def test_what_needs_no_provider_asks_none(guarded, path):
    for method in [method for method, at in ROUTES if (at or "/") == path]:
        answer = ask(guarded, method, path, COZE)
        assert answer.status_code in (200, 501), (method, answer.text)
