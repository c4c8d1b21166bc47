"""OpenAI's platform: what its OAuth server is asked for a caller's own token."""

import json

import pytest

from app.config.schema import Config, OpenAI
from app.wire.errors import GatewayError
from providers.openai import platform

CONFIG = Config(openai=OpenAI(auth_url="http://auth/"))


def body(**members: str) -> bytes:
    return json.dumps({"refresh_token": "r-1", **members}).encode()


def test_a_token_is_renewed_as_the_platforms_own_page_does_it() -> None:
    asked = platform.refresh(body(), CONFIG)
    assert (asked.method, asked.url) == ("POST", "http://auth/oauth/token")
    assert json.loads(asked.body or b"") == {
        "grant_type": "refresh_token",
        "client_id": platform.CLIENT_ID,
        "redirect_uri": platform.REDIRECT_URI,
        "refresh_token": "r-1",
    }


def test_the_callers_client_id_and_address_come_before_our_own() -> None:
    own = body(client_id="app_own", redirect_uri="https://own.example/callback")
    asked = json.loads(platform.refresh(own, CONFIG).body or b"")
    assert (asked["client_id"], asked["redirect_uri"]) == (
        "app_own",
        "https://own.example/callback",
    )
    ended = platform.revoke(own, CONFIG)
    assert ended.url == "http://auth/oauth/revoke"
    assert json.loads(ended.body or b"") == {"client_id": "app_own", "token": "r-1"}


def test_the_account_is_asked_for_with_the_callers_header_as_it_is() -> None:
    asked = platform.session("Bearer sess-1", Config(openai=OpenAI(api_url="http://api/")))
    assert asked.url == "http://api/dashboard/onboarding/login"
    assert ("Authorization", "Bearer sess-1") in asked.headers


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        (b"{}", None, None),
        (b'{"refresh_token": 1}', "refresh_token", None),
        (b'{"refresh_token": ""}', "refresh_token", None),
        (b'{"refresh_token": "x", "client_id": 7}', "client_id", None),
        (b"nothing", None, "invalid_json"),
        (b"\xff", None, "invalid_json"),
    ],
)
def test_a_body_without_a_token_is_refused_by_member(sent, param, code) -> None:
    for build in (platform.refresh, platform.revoke):
        with pytest.raises(GatewayError) as refused:
            build(sent, CONFIG)
        assert (refused.value.status, refused.value.param) == (400, param)
        assert code is None or refused.value.code == code
