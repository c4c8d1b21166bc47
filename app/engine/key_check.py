"""Checks one key or session at its upstream, by the cheapest request that the upstream offers: a
list of models, the name of an account."""

import asyncio
import re
import time

from msgspec import Struct

from app.clients import Clients, read_whole
from app.config.schema import Config
from app.pool.web_sessions import Sessions
from app.telemetry.redaction import Redactor
from app.wire.cookies import jwt_expiry
from app.wire.errors import GatewayError
from app.wire.provider import Key, Provider
from app.wire.upstream import UpstreamReply

_SECONDS = 30.0
_MAX_BYTES = 8 * 1024 * 1024
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")


class Finding(Struct):
    """The state of one key.

    `state`: valid; limited (valid, but at its rate limit now); spent; expired; refused; unknown,
    when the upstream could not be reached. `told` explains it.
    """

    pool: str
    id: str
    state: str
    expires_in: int | None  # seconds, where the credential says
    told: str


async def check_key(
    config: Config,
    clients: Clients,
    sessions: Sessions,
    key: Key,
    provider: Provider,
    redact: Redactor,
) -> Finding:
    """Asks the upstream about one key. Text of the upstream in the finding holds no secret of
    `redact`, nor the key."""
    finding = await _check(config, clients, sessions, key, provider)
    finding.told = redact(finding.told)
    if key.val:
        finding.told = finding.told.replace(key.val, "[secret]")
    finding.told = finding.told[:300]
    return finding


async def _check(
    config: Config, clients: Clients, sessions: Sessions, key: Key, provider: Provider
) -> Finding:
    finding = Finding(key.pool, key.id, "unknown", None, "")
    ends = jwt_expiry(key.val)
    if ends is None and key.fields.get("expires", "").isdecimal():
        ends = int(key.fields["expires"])
    if ends is not None:
        finding.expires_in = ends - int(time.time())
        if finding.expires_in <= 0:
            finding.state, finding.told = "expired", "its end is written in it"
            return finding
    ask = provider.check_request or provider.models_request
    if ask is None:
        finding.told = "this upstream offers nothing to ask"
        return finding
    try:
        request = ask(config, key)
        async with asyncio.timeout(_SECONDS):
            response = await clients.open(request)
            reply = await read_whole(response, _MAX_BYTES)
        if provider.renewed is not None:  # the request may have rotated it, which voids the old one
            renewed = provider.renewed(key, reply.set_cookies, int(time.time()))
            if renewed is not None:
                await sessions.renew(renewed)
        _judge(finding, provider, reply)
        if reply.status == 404 and key.pool.startswith("upstreams."):
            finding.told = f"{_not_there(request.url)} ({finding.told})"
    except TimeoutError:
        finding.told = f"no answer within {_SECONDS:.0f} s"
    except GatewayError as error:
        finding.told = error.message
    return finding


# Two versions in a row, as in /v1/v1.
_DOUBLED = re.compile(r"/v\d+[a-z0-9]*/(v\d+[a-z0-9]*)(?=/)")


def _not_there(url: str) -> str:
    """What a 404 says of the address in the config."""
    url = url.partition("?")[0]
    hint = "api_url is what stands before /chat/completions"
    if found := _DOUBLED.search(url):
        hint = f"{found[0]} is doubled: take /{found[1]} off api_url"
    return f"nothing at {url}; {hint}"


def _judge(finding: Finding, provider: Provider, reply: UpstreamReply) -> None:
    try:
        if provider.check_reply is not None:
            provider.check_reply(reply)
        elif reply.status != 200:
            raise provider.read_error(reply)
        elif provider.check_request is None and provider.read_models is not None:
            provider.read_models(reply)
    except GatewayError as error:
        # Some upstreams answer 400 or 200 to an unknown key: then the error's status counts.
        states = [_state_of(status, error) for status in (error.status, reply.status)]
        finding.state = next((state for state in states if state != "unknown"), "unknown")
        finding.told = error.message
    else:
        finding.state = "valid"


def _state_of(status: int, error: GatewayError) -> str:
    if error.outcome == "upstream_challenge" or status >= 500:
        return "unknown"
    if status == 402 or error.code in _SPENT:
        return "spent"
    if status == 429:
        return "limited"
    # Upstreams do not tell a session that has ended from one that is refused.
    if status in (401, 403):
        return "refused"
    return "unknown"
