"""Cookies and the claims of JWTs: when a web session expires, and its next Cookie header.

Signatures are not verified. Cookies belong to a credential, never to a client.
"""

import base64
import binascii
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

import msgspec
from msgspec import Struct


class _Claims(Struct):
    exp: float | None = None


_claims = msgspec.json.Decoder(_Claims)


def jwt_payload(token: str) -> bytes | None:
    """Returns the JSON text of a JWT's claims; None if `token` is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def jwt_expiry(token: str) -> int | None:
    """Returns when a JWT expires (Unix seconds); None if it is no JWT or has no valid `exp`."""
    payload = jwt_payload(token)
    if payload is None:
        return None
    try:
        exp = _claims.decode(payload).exp
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return int(exp) if exp is not None and 0 <= exp < 1e11 else None


class Cookie(Struct, frozen=True):
    """One Set-Cookie line. `expires` is Unix seconds, None for a session cookie, 0 for deletion."""

    name: str
    value: str
    expires: int | None


def read_cookie(line: str, now: int) -> Cookie | None:
    """Parses a Set-Cookie line (RFC 6265): Max-Age wins over Expires, invalid ones are ignored.

    `now` is Unix seconds. None if the line sets no cookie.
    """
    pair, *attributes = line.split(";")
    name, equals, value = pair.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name:
        return None
    expires: int | None = None
    max_age: int | None = None
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        key, text = key.strip().lower(), text.strip()
        if key == "max-age" and text.lstrip("-").isdecimal() and len(text) < 20:
            max_age = int(text)
        elif key == "expires":
            expires = _date(text) if text else expires
    if max_age is not None:
        expires = now + max_age if max_age > 0 else 0
    if expires is not None and expires <= now:
        expires = 0
    return Cookie(name, value, expires)


def _date(text: str) -> int | None:
    try:
        return max(0, int(parsedate_to_datetime(text.replace("-", " ")).timestamp()))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def read_cookie_header(header: str) -> dict[str, str]:
    """Parses a Cookie header: name to value, in order; parts that are no pair are dropped."""
    pairs = (part.partition("=") for part in header.split(";"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals and name.strip()}


def cookie_header(cookies: dict[str, str]) -> str:
    """Writes a Cookie header."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def after_set_cookie(header: str, lines: Iterable[str], now: int) -> str:
    """Returns the Cookie header for the request after a response with these Set-Cookie lines."""
    cookies = read_cookie_header(header)
    for line in lines:
        cookie = read_cookie(line, now)
        if cookie is None:
            continue
        if cookie.expires == 0:
            cookies.pop(cookie.name, None)
        else:
            cookies[cookie.name] = cookie.value
    return cookie_header(cookies)
