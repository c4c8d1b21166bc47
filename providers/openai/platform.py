"""Account calls of platform.openai.com with the caller's own token: plain OAuth, nothing kept.

Source: the Go project's routes and OAuth 2.0 (RFC 6749, RFC 7009).
"""

import msgspec
from msgspec import Struct

from app.config.schema import Config
from app.wire.errors import bad_request, from_validation
from app.wire.upstream import UpstreamRequest, join_url

# The OAuth client of the platform's own page; both values are public.
CLIENT_ID = "DRivsnm2Mu42T3KOpqdtwB3NYviHYzwD"
REDIRECT_URI = "https://platform.openai.com/auth/callback"


class _Given(Struct):
    refresh_token: str
    client_id: str = CLIENT_ID
    redirect_uri: str = REDIRECT_URI


def refresh(body: bytes, config: Config) -> UpstreamRequest:
    """Exchanges a refresh token for a new access token. Raises GatewayError 400 without one."""
    given = _read(body)
    return _post(
        config,
        "/oauth/token",
        {
            "redirect_uri": given.redirect_uri,
            "grant_type": "refresh_token",
            "client_id": given.client_id,
            "refresh_token": given.refresh_token,
        },
    )


def revoke(body: bytes, config: Config) -> UpstreamRequest:
    """Revokes a refresh token. Raises GatewayError 400 for a body without one."""
    given = _read(body)
    return _post(
        config, "/oauth/revoke", {"client_id": given.client_id, "token": given.refresh_token}
    )


def session(authorization: str, config: Config) -> UpstreamRequest:
    """Asks for the account data that the platform's page loads right after a login."""
    return UpstreamRequest(
        method="POST",
        url=join_url(config.openai.api_url, "/dashboard/onboarding/login"),
        headers=[
            ("Authorization", authorization),
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "gzip"),
        ],
        body=b"{}",
        proxy=config.openai.proxy_url or config.proxy_url or None,
    )


def _read(body: bytes) -> _Given:
    try:
        given = msgspec.json.decode(body, type=_Given)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if not given.refresh_token:
        raise bad_request("refresh_token is empty.", param="refresh_token")
    return given


def _post(config: Config, path: str, body: dict[str, str]) -> UpstreamRequest:
    openai = config.openai
    return UpstreamRequest(
        method="POST",
        url=join_url(openai.auth_url, path),
        headers=[("Content-Type", "application/json"), ("Accept-Encoding", "gzip")],
        body=msgspec.json.encode(body),
        proxy=openai.auth_proxy_url or openai.proxy_url or config.proxy_url or None,
    )
