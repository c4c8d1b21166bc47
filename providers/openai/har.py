"""The operator's own ChatGPT session out of a HAR file, read piece by piece.

A HAR is what a browser's network panel exports; one of 200 MB is no rarity. Entries are taken one
at a time and only their few interesting members are decoded, so memory holds one entry; large ones
(a film, a bundle) hold no session and are passed over. Nothing found is ever logged. Source: HAR
1.2 and what browsers make of it.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from app.wire.cookies import cookie_header, jwt_expiry, jwt_payload, read_cookie_header
from app.wire.framing import JsonArrayParser

MAX_ENTRY_BYTES = 16 * 1024 * 1024
CLOUDFLARE_COOKIE_SECONDS = 1800
# In place of a token that is to be fetched with the session's cookie before the first question.
TO_BE_RENEWED = "renew-by-cookie"

_ENTRIES = re.compile(rb'"entries"\s*:\s*\[')
_TAIL = 64  # bytes kept while looking for the above across two pieces
_KEPT_HEADERS = {
    "user-agent": "user_agent",
    "accept-language": "accept_language",
    "oai-language": "oai_language",
    "oai-device-id": "device_id",
    "chatgpt-account-id": "account_id",
    "sec-ch-ua": "sec-ch-ua",
    "sec-ch-ua-mobile": "sec-ch-ua-mobile",
    "sec-ch-ua-platform": "sec-ch-ua-platform",
    "openai-sentinel-proof-token": "proof",
}
SESSION_COOKIE = "__Secure-next-auth.session-token"


class _Pair(Struct):
    name: str = ""
    value: str = ""


class _Request(Struct):
    url: str = ""
    headers: list[_Pair] = []
    cookies: list[_Pair] = []
    postData: Any = None


class _Entry(Struct):
    request: _Request
    startedDateTime: str = ""


class _Content(Struct):
    text: str | None = None
    encoding: str | None = None


class _Response(Struct):
    content: _Content


class _Answered(Struct):
    """The rest of an entry, decoded only where the answer's text matters."""

    response: _Response


class _Account(Struct):
    id: str | None = None


class _SignedIn(Struct):
    accessToken: str | None = None
    account: _Account | None = None


class _Solved(Struct):
    token: str | None = None
    arkose_token: str | None = None


_entry = msgspec.json.Decoder(_Entry)
_answered = msgspec.json.Decoder(_Answered)


class Found(Struct):
    """A session, or why there is none. `fields` are those of the pool's Key."""

    val: str = ""
    fields: dict[str, str] = {}
    expires: int | None = None
    problem: str = ""

    @property
    def is_to_be_renewed(self) -> bool:
        """The file has cookies but no token: the first use fetches one."""
        return self.val == TO_BE_RENEWED


class HarReader:
    """Finds the session in a HAR file that is read in pieces of any size."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._head = b""
        self._entries: JsonArrayParser | None = None
        self._count = self._ours = 0
        self._with_secrets = False
        self._newest: dict[str, tuple[float, str]] = {}  # item -> when it was seen, what it was
        self._cookies: dict[str, tuple[float, str]] = {}

    def feed(self, data: bytes) -> None:
        """Reads the next bytes of the file."""
        if self._entries is None:
            self._head += data
            found = _ENTRIES.search(self._head)
            if found is None:
                self._head = self._head[-_TAIL:]
                return
            data = self._head[found.end() :]
            self._head = b""
            self._entries = JsonArrayParser(MAX_ENTRY_BYTES, skip_large=True)
        if self._entries.ended:
            return
        for whole in self._entries.feed(data):
            self._one(whole)

    def finish(self) -> Found:
        """The session that was found, or the problem that kept it from being found."""
        if self._entries is None:
            return Found(problem="it is no HAR file: it has no list of entries")
        if not self._ours:
            end = "" if self._entries.ended else ", and it ends early"
            count = self._count + self._entries.skipped
            return Found(problem=f"none of its {count} entries is of chatgpt.com{end}")
        if not self._with_secrets:
            return Found(
                problem="the browser left out all cookies and tokens (a sanitized export). In "
                "Chrome's DevTools settings switch on \"Allow to generate HAR with sensitive "
                'data", then take "Export HAR (with sensitive data)"'
            )
        return self._found()

    def _found(self) -> Found:
        newest = {name: value for name, (_, value) in self._newest.items()}
        cookies = {
            name: value
            for name, (at, value) in self._cookies.items()
            if name != "__cf_bm" or self._now - at < CLOUDFLARE_COOKIE_SECONDS
        }
        token = newest.pop("session_token", "") or newest.get("bearer", "")
        newest.pop("bearer", None)
        if not token and not any(name.startswith(SESSION_COOKIE) for name in cookies):
            return Found(problem="it holds no access token: was the browser signed in?")
        if not newest.get("account_id"):
            newest["account_id"] = _account_in(token)
        newest["device_id"] = newest.get("device_id") or cookies.get("oai-did", "")
        if "arkose_token" in newest:
            newest["arkose_at"] = str(int(self._newest["arkose_token"][0]))
        fields = {name: value for name, value in newest.items() if value}
        fields["cookies"] = cookie_header(cookies)
        return Found(token or TO_BE_RENEWED, fields, jwt_expiry(token))

    def _one(self, whole: bytes) -> None:
        self._count += 1
        try:
            entry = _entry.decode(whole)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        try:
            url = urlsplit(entry.request.url)
            host = (url.hostname or "").lower()
        except ValueError:
            return
        at = _time(entry.startedDateTime)
        if "/fc/gt2/" in url.path:
            self._keep("arkose_token", at, _solved(_text(whole)))
        is_ours = host in ("chatgpt.com", "chat.openai.com") or host.endswith(".chatgpt.com")
        if not is_ours:
            return
        self._ours += 1
        for header in entry.request.headers:
            self._header(header.name.lower(), header.value, url.path, at)
        for cookie in entry.request.cookies:
            self._cookie(cookie.name, cookie.value, at)
        if url.path == "/api/auth/session":
            self._session(_text(whole), at)
        elif url.path.endswith("/conversation") and isinstance(entry.request.postData, dict):
            text = entry.request.postData.get("text")
            self._keep("arkose_token", at, _solved(text if isinstance(text, str) else ""))

    def _header(self, name: str, value: str, path: str, at: float) -> None:
        if name == "cookie":
            for cookie, text in read_cookie_header(value).items():
                self._cookie(cookie, text, at)
        elif name == "authorization":
            self._with_secrets = True
            if path.startswith("/backend-api/") and value[:7].lower() == "bearer ":
                self._keep("bearer", at, value[7:].strip())
        elif name == "openai-sentinel-arkose-token":
            self._keep("arkose_token", at, value)
        elif name in _KEPT_HEADERS:
            self._keep(_KEPT_HEADERS[name], at, value)

    def _cookie(self, name: str, value: str, at: float) -> None:
        self._with_secrets = True
        if at >= self._cookies.get(name, (0.0, ""))[0]:
            self._cookies[name] = (at, value)

    def _session(self, text: str, at: float) -> None:
        try:
            signed_in = msgspec.json.decode(text, type=_SignedIn)
        except msgspec.DecodeError:
            return
        if signed_in.accessToken:
            self._with_secrets = True
            self._keep("session_token", at, signed_in.accessToken)
            if signed_in.account is not None:
                self._keep("account_id", at, signed_in.account.id or "")

    def _keep(self, item: str, at: float, value: str) -> None:
        # Values become request headers again, so a line break in one is refused.
        if value and at >= self._newest.get(item, (0.0, ""))[0] and value.isprintable():
            self._newest[item] = (at, value)


def read_har(pieces: Iterable[bytes], now: int) -> Found:
    """The session in a HAR file, given in pieces."""
    reader = HarReader(now)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def _text(whole: bytes) -> str:
    """The text of an entry's answer."""
    try:
        content = _answered.decode(whole).response.content
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    text = content.text or ""
    if content.encoding != "base64":
        return text
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _solved(text: str) -> str:
    try:
        found = msgspec.json.decode(text, type=_Solved)
    except msgspec.DecodeError:
        return ""
    return found.arkose_token or found.token or ""


def _account_in(token: str) -> str:
    try:
        claims = msgspec.json.decode(jwt_payload(token) or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    auth = claims.get("https://api.openai.com/auth")
    found = auth.get("chatgpt_account_id") if isinstance(auth, dict) else None
    return found if isinstance(found, str) and found.isprintable() else ""


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
