"""Authentication: access tokens, trusted proxies, local-only mode.

With `access.tokens` a caller sends one of them, in any place where an SDK can put an API key. The
token is removed from the request, so that no later stage and no upstream sees it. Without tokens,
only callers on this machine may use the configured keys (as in Redis' protected mode); everybody
else may send an upstream credential of their own. No input or output happens here; the only clocks
are those of the limit on failures and of tokens that expire.

Tokens that operators add while the gateway runs count as those of the config. Of them only SHA-256
is known: it is of 256 random bits, so nobody can try out what it may be of.
"""

import hmac
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b, sha256
from math import inf
from urllib.parse import unquote_plus

from msgspec import Struct

from app.auth.caller import Caller, token_ended, token_required, tokens_unknown
from app.auth.credentials import KEY_PROTOCOL, PROTOCOLS, bare_token, subprotocols
from app.auth.peers import (
    TOKEN_HEADERS,
    Headers,
    Peer,
    client_group,
    in_networks,
    is_forwarded,
    is_from_local_origin,
    is_loopback,
    parse_networks,
    plain_address,
)
from app.config.schema import AccessToken, Config
from app.wire.errors import GatewayError

# Health checks need no token, nor do the greetings of Claude Code, "/" and what tells the routes.
_PUBLIC = frozenset({"/ping", "/healthz", "/readyz", "/c/api/hello"})
_GREETED = frozenset({"/", "/c", "/c/", "/docs", "/docs/", "/docs/rapidoc.js", "/openapi.json"})
# These routes authenticate their callers themselves: `admin.token`, a picture's signed link.
_OWN_AUTH = re.compile(r"/(?:admin|metrics|gptimage)(?:/|\Z)").match
_MAYBE_WITHOUT_TOKEN = (*_PUBLIC, "/admin", "/metrics", "/gptimage")
_GOOGLES = ("/gemini/", "/c/v1beta/", "/c/v1alpha/", "/c/v1/models")
_MAX_HOPS = 32
_MAX_CLIENTS = 10_000
_WINDOW_SECONDS = 60.0
_MAX_FAILURES = 20  # wrong tokens per window and client; then 429 until the window ends
_MAX_VERIFIED = 8


class _Client(Struct):
    """Authentication history of one client group (see `client_group`)."""

    since: float = 0.0  # start of the window, monotonic seconds
    failures: int = 0
    verified: list[bytes] = []  # digests of tokens that were right: exempt from the 429


class KnownToken(Struct, frozen=True):
    """A token that was added while the gateway runs, found by SHA-256 of what a caller sends."""

    token: AccessToken
    is_enabled: bool = True
    expires: float = inf  # Unix time


class _Found(Struct):
    """A token that a request holds."""

    value: str  # as it was sent
    digest: bytes  # of the value
    token: AccessToken
    until: float = inf  # Unix time
    ended: str = ""  # why it may not be used: "disabled" or "expired"


class Access:
    """Authenticates the requests of one worker."""

    def __init__(self, config: Config) -> None:
        # Tokens are looked up by a hash with a secret key, so that timing reveals nothing.
        self._salt = os.urandom(32)
        self._tokens = {self._digest(token.val): token for token in config.access.tokens}
        self._stored: dict[str, KnownToken] = {}
        # False until it is known which tokens were added: others than the config's may be right.
        self.is_complete = True
        self._open = not config.access.protected
        self._trusted = parse_networks(config.trusted_proxies)
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def set_stored(self, tokens: Iterable[tuple[str, KnownToken]]) -> None:
        """Sets the tokens that were added, with the hexadecimal SHA-256 of each."""
        self._stored = dict(tokens)
        self.is_complete = True

    def peer(self, address: str) -> Peer:
        """The facts about a TCP peer; to be asked once per connection."""
        plain = plain_address(address)
        return Peer(plain, is_loopback(plain), in_networks(plain, self._trusted))

    def authenticate(
        self,
        peer: Peer,
        path: str,
        query: str,
        names: set[str],
        headers: Headers,
        head: bytes,
    ) -> tuple[Caller, str]:
        """Authenticates the request. Returns the caller and the query without access tokens.

        Tokens are removed from `headers` in place. `names` are the lower-cased names in `headers`;
        `head` is the request head from which they were parsed.
        Raises GatewayError 401 if a token is required and missing, unknown, disabled or expired,
        503 if it is not known yet which tokens there are, 429 after too many wrong ones, 400 if the
        token is also part of the path.
        """
        forwarded = (peer.is_local or peer.is_trusted) and is_forwarded(names)
        address = peer.address
        if forwarded and peer.is_trusted:
            address = self._forwarded_address(peer, headers)
        local = peer.is_local and not forwarded and is_from_local_origin(names, headers)
        if path in _GREETED or (
            path.startswith(_MAYBE_WITHOUT_TOKEN)
            and (path.rstrip("/") in _PUBLIC or _OWN_AUTH(path))
        ):
            return Caller(address, address, None, local, local), query
        if not self._tokens and not self._stored:
            keys = local or (self._open and self.is_complete)
            return Caller(client_group(address), address, None, local, keys, local), query
        found, query = self._take_token(path, query, names, headers, head, address)
        if found is None:
            raise token_required() if self.is_complete else tokens_unknown()
        if found.ended:
            raise token_ended(found.ended)
        self._remember_verified(address, found.digest)
        name, is_sole = f"token {found.token.id}", len(self._tokens) + len(self._stored) == 1
        return Caller(name, address, found.token, local, True, is_sole, found.until), query

    def verify(self, address: str, given: str, secret: str) -> bool:
        """Whether `given` equals `secret`. An empty `given` does not count as a failure.

        Raises GatewayError 429 after too many wrong secrets from `address`, unless `given` has been
        right from there before.
        """
        if not given:
            return False
        digest = self._digest(given)
        client = self._clients.get(client_group(address))
        if not (client and digest in client.verified):
            self._check_failures(address)
        if not equal_secrets(given, secret):
            self._count_failure(address)
            return False
        self._remember_verified(address, digest)
        return True

    def _count_failure(self, address: str) -> None:
        now = time.monotonic()
        client = self._client(client_group(address))
        if now - client.since > _WINDOW_SECONDS:
            client.since, client.failures = now, 0
        client.failures += 1

    def _check_failures(self, address: str) -> None:
        """Raises GatewayError 429 while too many wrong secrets have come from `address`.

        There is no delay: a guess that is refused unread costs the guesser as much.
        """
        client = self._clients.get(client_group(address))
        if client is not None and client.failures >= _MAX_FAILURES:
            left = client.since + _WINDOW_SECONDS - time.monotonic()
            if left > 0:
                raise GatewayError(
                    429,
                    "Too many wrong tokens came from your address; wait, then send the right one.",
                    code="too_many_failures",
                    retry_after=left,
                )

    def _take_token(
        self,
        path: str,
        query: str,
        names: set[str],
        headers: Headers,
        head: bytes,
        address: str,
    ) -> tuple[_Found | None, str]:
        """Removes every access token from the request. Returns the one that counts, and the query.

        The token in x-access-token counts, else the first one found.
        """
        found: _Found | None = None
        has_credential = False
        removed = 0  # occurrences of tokens in the head
        for name in TOKEN_HEADERS:
            if name not in names:
                continue
            values = headers.getall(name, ())
            kept = []
            for value in values:
                bare = bare_token(value)
                has_credential = has_credential or bool(bare)
                one = self._find(bare) if bare else None
                if one is None:
                    kept.append(value)
                else:
                    removed += 1
                    if name == TOKEN_HEADERS[-1] or found is None:
                        found = one
            if name == TOKEN_HEADERS[-1]:
                kept = []
            if len(kept) < len(values):
                headers.popall(name, ())
                for value in kept:
                    headers.add(name, value)
        if PROTOCOLS in names:
            offered = ", ".join(headers.getall(PROTOCOLS, ()))
            protocols, keys = subprotocols(offered)
            for bare in filter(None, map(bare_token, keys)):
                has_credential = True
                one = self._find(bare)
                if one is None:
                    protocols.append(KEY_PROTOCOL + bare)
                    continue
                removed += 1
                found = found or one
            if keys:
                headers.popall(PROTOCOLS, ())
                if protocols:
                    headers.add(PROTOCOLS, ", ".join(protocols))
        if "key=" in query:
            in_query = self._take_from_query(query)
            query = in_query.rest
            removed += in_query.removed
            if path.startswith(_GOOGLES):  # Gemini's SDKs send their key there
                has_credential = has_credential or in_query.has_key
                found = found or in_query.found
        client = self._clients.get(client_group(address))
        if has_credential and not (client and found and found.digest in client.verified):
            self._check_failures(address)
        if found is None:
            if has_credential:
                self._count_failure(address)
            return None, query
        if head.count(found.value.encode()) > removed:
            query = _remove_everywhere(found.value, path, query, headers)
        return found, query

    def _find(self, value: str) -> _Found | None:
        """The token that this text is, None if it is none."""
        digest = self._digest(value)
        token = self._tokens.get(digest)
        if token is not None and equal_secrets(token.val, value):
            return _Found(value, digest, token)
        if not self._stored:
            return None
        known = self._stored.get(sha256(value.encode("utf-8", "surrogateescape")).hexdigest())
        if known is None:
            return None
        ended = "" if time.time() < known.expires else "expired"
        ended = ended if known.is_enabled else "disabled"
        return _Found(value, digest, known.token, known.expires, ended)

    def _take_from_query(self, query: str) -> "_QueryTokens":
        """Removes the access tokens among the `key` parameters of a query."""
        found = _QueryTokens()
        kept = []
        for part in query.split("&"):
            name, _, value = part.partition("=")
            if unquote_plus(name) == "key" and (bare := bare_token(unquote_plus(value))):
                found.has_key = True
                one = self._find(bare)
                if one is not None:
                    found.removed += value == bare  # percent-encoded, it is not in the head
                    found.found = found.found or one
                    continue
            kept.append(part)
        found.rest = "&".join(kept)
        return found

    def _remember_verified(self, address: str, digest: bytes) -> None:
        client = self._clients.get(client_group(address)) or self._client(client_group(address))
        if digest not in client.verified:
            client.verified = [*client.verified, digest][-_MAX_VERIFIED:]

    def _client(self, group: str) -> _Client:
        client = self._clients.get(group)
        if client is None:
            client = self._clients[group] = _Client()
            if len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(group)
        return client

    def _forwarded_address(self, peer: Peer, headers: Headers) -> str:
        """Client address: right-most X-Forwarded-For entry that is not a trusted proxy.

        What stands left of it was written by others and may be forged.
        """
        address = peer.address
        hops = ",".join(headers.getall("x-forwarded-for", ())).split(",")
        for hop in hops[: -_MAX_HOPS - 1 : -1]:
            plain = plain_address(hop.strip())
            if not plain:
                break
            address = plain
            if not in_networks(plain, self._trusted):
                break
        return address

    def _digest(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogateescape"), key=self._salt).digest()


class _QueryTokens(Struct):
    """What the `key` parameters of a query held, and the query without access tokens."""

    rest: str = ""
    found: _Found | None = None  # the first one
    has_key: bool = False  # any credential, ours or not
    removed: int = 0  # tokens that were written literally, as they are in the head


def equal_secrets(one: str, other: str) -> bool:
    """Compares two secrets in constant time."""
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


def _remove_everywhere(secret: str, path: str, query: str, headers: Headers) -> str:
    """Removes a token from places that are not meant for it: other headers, other parameters."""
    if secret in path:
        raise GatewayError(
            400, "Your access token stands in the path; send it in a header.", code="bad_path"
        )
    for name in {name for name, value in headers.items() if secret in value}:
        kept = [value for value in headers.popall(name, ()) if secret not in value]
        for value in kept:
            headers.add(name, value)
    return "&".join(part for part in query.split("&") if secret not in part)
