"""Reads the ledger: sums and calls for operators, a token's own sums for its caller."""

import time
from collections.abc import Collection, Sequence

import msgspec
from sanic import HTTPResponse, Request

from app.accounting.usage import (
    BY,
    CALL_FILTERS,
    DEFAULT_CALLS,
    FILTERS,
    MOST_CALLS,
    Span,
    Value,
    as_csv,
    span_of,
)
from app.auth.caller import Caller
from app.http.responses import App, gateway_of, headers_for, record_for
from app.http.routes.operator_auth import check_operator, private_headers
from app.wire.errors import bad_request
from app.wire.renderer import JSON

_OWN = "/c/v1/usage"
_OWN_BY = [by for by in BY if by != "key"]  # the keys are the operator's
_SPAN = ("since", "until")
_ID = "a whole number, the id of a call"


def register(app: App) -> None:
    """Adds the routes of this module."""
    app.add_route(own_usage, _OWN, methods=["GET"])
    app.add_route(usage, "/admin/usage", methods=["GET"])
    app.add_route(calls, "/admin/calls", methods=["GET"])


async def usage(request: Request) -> HTTPResponse:
    """Sums of all tokens, as JSON or CSV."""
    check_operator(request)
    asked = _query(request, "by", "format", *_SPAN, *FILTERS)
    by, span = _by(asked, "token"), _span(asked)
    having = [(name, asked[name]) for name in FILTERS if name in asked]
    found = await gateway_of(request).usage.sums(by, span, having)
    return _answer(asked, {"by": by, **_told(span)}, found, private_headers(request))


async def calls(request: Request) -> HTTPResponse:
    """Single calls, the newest first, as JSON or CSV; `next` is the `before` of the next page."""
    check_operator(request)
    asked = _query(request, "before", "limit", "format", *_SPAN, *CALL_FILTERS)
    span = _span(asked)
    limit = _number(asked, "limit", f"a whole number from 1 to {MOST_CALLS}", DEFAULT_CALLS)
    if not 1 <= limit <= MOST_CALLS:
        raise bad_request(f"limit: expected a whole number from 1 to {MOST_CALLS}.", "limit")
    before = _number(asked, "before", _ID, 0) if "before" in asked else None
    _number(asked, "status", "an HTTP status", 0)
    having = [(name, asked[name]) for name in CALL_FILTERS if name in asked]
    found = await gateway_of(request).usage.calls(span, having, before, limit)
    more = found[-1]["id"] if len(found) == limit else None
    return _answer(asked, {**_told(span), "next": more}, found, private_headers(request))


async def own_usage(request: Request) -> HTTPResponse:
    """Sums of the caller's own token, as JSON or CSV."""
    record_for(request, _OWN)
    asked = _query(request, "by", "format", *_SPAN)
    by, span = _by(asked, "model", _OWN_BY), _span(asked)
    caller: Caller = request.ctx.caller
    token = caller.token.id if caller.token is not None else ""
    found = await gateway_of(request).usage.sums(by, span, [("token", token)])
    about = {"token": token, "by": by, **_told(span)}
    return _answer(asked, about, found, dict(headers_for(request).items()))


def _query(request: Request, *known: str) -> dict[str, str]:
    """The query's members. Raises GatewayError 400 for one that is not known here."""
    args = request.get_args(keep_blank_values=True)  # `token=`: the calls without one
    asked = {name: args.get(name) or "" for name in args}
    for name in asked:
        if name not in known:
            raise bad_request(f"{name[:40]!r} is nothing here; there are {', '.join(known)}.", name)
    if asked.get("format", "json") not in ("json", "csv"):
        raise bad_request("format: expected json or csv.", "format")
    return asked


def _by(asked: dict[str, str], default: str, among: Collection[str] = BY) -> str:
    by = asked.get("by", default)
    if by not in among:
        raise bad_request(f"by: expected one of {', '.join(among)}.", "by")
    return by


def _span(asked: dict[str, str]) -> Span:
    try:
        return span_of(asked.get("since"), asked.get("until"), time.time())
    except ValueError as error:
        raise bad_request(f"{error}.", "since") from None


def _number(asked: dict[str, str], name: str, what: str, default: int) -> int:
    word = asked.get(name)
    if word is None:
        return default
    if not (word.isascii() and word.isdecimal() and len(word) < 19):
        raise bad_request(f"{name}: expected {what}.", name)
    return int(word)


def _told(span: Span) -> dict[str, Value]:
    return {"since": span.since, "until": span.until}


def _answer(
    asked: dict[str, str],
    about: dict[str, Value],
    found: Sequence[dict[str, Value]],
    headers: dict[str, str],
) -> HTTPResponse:
    headers["cache-control"] = "no-store"
    if asked.get("format") == "csv":
        return HTTPResponse(as_csv(found), 200, headers, "text/csv; charset=utf-8")
    return HTTPResponse(msgspec.json.encode({**about, "data": found}), 200, headers, JSON)
