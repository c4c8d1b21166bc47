"""Access tokens for operators: those of the config and those added while the gateway runs.

A token's value is in one answer only, the one to the order that adds it.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sanic import HTTPResponse, Request

from app.accounting.stored_tokens import StoredToken
from app.config.field_types import TokenId
from app.config.fields import described
from app.config.schema import AccessToken, TokenRights
from app.config.upstreams import unknown_provider
from app.engine.gateway import Gateway
from app.http.responses import App, gateway_of
from app.http.routes.operator_auth import check_operator, private_headers
from app.wire.errors import GatewayError, bad_request, from_validation
from app.wire.renderer import JSON

_IN = re.compile(r"(\d{1,5})([hd])").fullmatch
_DATE = re.compile(r"\d{4}-\d\d-\d\d").fullmatch
_SECONDS = {"h": 3600, "d": 86_400}


class Add(TokenRights, frozen=True, kw_only=True, tag_field="action", tag="add"):
    """Adds a token. `expires`: a date, a time, or in how long (`30d`); left out: never."""

    id: TokenId
    expires: str | None = None


class Disable(Struct, forbid_unknown_fields=True, tag_field="action", tag="disable"):
    """Refuses a token until it is enabled."""

    id: str


class Enable(Struct, forbid_unknown_fields=True, tag_field="action", tag="enable"):
    """Takes a disabled token back into use."""

    id: str


class Remove(Struct, forbid_unknown_fields=True, tag_field="action", tag="remove"):
    """Forgets a token."""

    id: str


_order = msgspec.json.Decoder(Add | Disable | Enable | Remove)


def register(app: App) -> None:
    """Adds the routes of this module."""
    app.add_route(tokens, "/admin/tokens", methods=["GET"])
    app.add_route(change_token, "/admin/tokens", methods=["POST"])


async def tokens(request: Request) -> HTTPResponse:
    """Every token without its value: rights, state, and the used part of its budget."""
    check_operator(request)
    return _answer(request, {"tokens": _told(gateway_of(request))})


async def change_token(request: Request) -> HTTPResponse:
    """Adds, disables, enables or removes a token, in all workers before this is answered."""
    check_operator(request)
    try:
        order = _order.decode(request.body)
    except msgspec.ValidationError as error:
        raise _refusal(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("The body is no JSON.") from None
    gateway = gateway_of(request)
    body: dict[str, Any] = {}
    if isinstance(order, Add):
        for name in order.providers:
            if problem := unknown_provider(name, gateway.config):
                raise bad_request(f"providers: {problem}.", "providers")
        members = {name: getattr(order, name) for name in TokenRights.__struct_fields__}
        expires = None if order.expires is None else expiry_of(order.expires, time.time())
        body["value"] = await gateway.tokens.add(order.id, TokenRights(**members), expires)
    else:
        await gateway.tokens.change(type(order).__name__.lower(), order.id)
    body["tokens"] = [one for one in _told(gateway) if one["id"] == order.id]
    return _answer(request, body)


def _refusal(error: msgspec.ValidationError) -> GatewayError:
    """The refusal of an order: in place of a regular expression, the words that the config has."""
    told = from_validation(error)
    if told.param is None or " matching regex " not in told.message:
        return told
    return bad_request(f"{told.param}: expected {described(Add, told.param)}.", told.param)


def expiry_of(word: str, now: float) -> int:
    """The Unix time that a word names: a date (to its end, UTC), a time, or in how long (`30d`,
    `12h`). Raises GatewayError 400 for anything else and for the past."""
    if ahead := _IN(word):
        at = int(now) + int(ahead[1]) * _SECONDS[ahead[2]]
    else:
        try:
            when = datetime.fromisoformat(word)
            when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
            when += timedelta(days=1 if _DATE(word) else 0)
            at = int(when.astimezone(UTC).timestamp())  # in UTC too it has to be a time
        except (ValueError, OverflowError):
            raise bad_request(
                f"expires: {word[:40]!r} is no time: write a date (2026-01-31), a time "
                "(2026-01-31T12:00:00Z), or in how long (30d, 12h).",
                "expires",
            ) from None
    if at <= now:
        raise bad_request("expires: this is over already.", "expires")
    return at


def _told(gateway: Gateway) -> list[dict[str, Any]]:
    used: dict[str, dict[str, float]] = {}
    for id, what, part in gateway.budgets.used():
        used.setdefault(id, {})[what] = round(part, 6)
    now = time.time()
    found = [_token(token, None, used, now) for token in gateway.config.access.tokens]
    return found + [_token(each.token, each, used, now) for each in gateway.tokens.known]


def _token(
    token: AccessToken, stored: StoredToken | None, used: dict[str, dict[str, float]], now: float
) -> dict[str, Any]:
    rights = {name: getattr(token, name) for name in TokenRights.__struct_fields__}
    return {
        "id": token.id,
        "source": "config" if stored is None else "ledger",
        "state": "enabled" if stored is None else stored.state(now),
        "created": None if stored is None else stored.created,
        "expires": None if stored is None else stored.expires,
        **rights,
        "used": used.get(token.id, {}),
    }


def _answer(request: Request, body: Any) -> HTTPResponse:
    return HTTPResponse(msgspec.json.encode(body), 200, private_headers(request), JSON)
