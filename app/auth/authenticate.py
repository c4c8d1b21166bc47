"""The lock on the door: who a caller is, and whether the operator's keys are for them.

With `access.tokens` a caller shows one of them, in any place where an SDK can put an API key; it is
taken off the request, so that nothing behind the door sees it. Without tokens, only callers on this
machine may use the keys, as Redis has it; anybody may bring an upstream credential of their own.
Never talks to anybody; the only clock is that of the slow-down.
"""

import hmac
import os
import re
import time
from collections import OrderedDict
from hashlib import blake2b
from urllib.parse import unquote_plus

from msgspec import Struct

from app.auth.caller import Caller, no_token
from app.auth.credentials import bare_token
from app.auth.peers import (
    HEADERS,
    Headers,
    Peer,
    client_group,
    is_forwarded,
    is_in,
    is_loopback,
    is_no_web_page,
    networks,
    plain_address,
)
from app.config.schema import AccessToken, Config
from app.wire.errors import GatewayError

# Asked by load balancers and by browsers before they ask anything else: no lock. Nor has "/".
_OPEN = frozenset({"/ping", "/healthz", "/readyz"})
# These look at their visitors themselves: `admin.token`, a picture's signed link.
_OWN_LOCK = re.compile(r"/(?:admin|metrics|gptimage)(?:/|\Z)").match
_UNLOCKED = (*_OPEN, "/admin", "/metrics", "/gptimage")
_MAX_HOPS = 32
_MAX_ADDRESSES = 10_000
_WINDOW_SECONDS = 60.0
_MAX_FAILURES = 20  # wrong tokens in one window from one address; then each has to wait
_MAX_FRIENDS = 8


class _Visitor(Struct):
    """What is remembered of one address."""

    since: float = 0.0
    failures: int = 0
    friends: list[bytes] = []  # tokens that were right: they go on while others guess


class Access:
    """One per worker."""

    def __init__(self, config: Config) -> None:
        # Tokens are found by a hash whose key nobody knows: how long that takes tells nothing.
        self._salt = os.urandom(32)
        self._tokens = {self._digest(token.val): token for token in config.access.tokens}
        self._open = not config.access.protected
        self._trusted = networks(config.trusted_proxies)
        self._visitors: OrderedDict[str, _Visitor] = OrderedDict()

    def peer(self, address: str) -> Peer:
        plain = plain_address(address)
        return Peer(plain, is_loopback(plain), is_in(plain, self._trusted))

    def admit(
        self,
        peer: Peer,
        path: str,
        query: str,
        names: set[str],
        headers: Headers,
        head: bytes,
    ) -> tuple[Caller, str]:
        """The caller, and the query that may travel on; the token is gone from `headers` as well.

        `names` are the names in `headers`, lower-cased; `head` is what they were read from.
        Raises GatewayError 401 without a token where one is needed, 429 for who tries too many.
        """
        forwarded = (peer.is_local or peer.is_trusted) and is_forwarded(names)
        address = peer.address
        if forwarded and peer.is_trusted:
            address = self._behind(peer, headers)
        local = peer.is_local and not forwarded and is_no_web_page(names, headers)
        if path == "/" or (
            path.startswith(_UNLOCKED) and (path.rstrip("/") in _OPEN or _OWN_LOCK(path))
        ):
            return Caller(address, address, None, local, local), query
        if not self._tokens:
            keys = local or self._open
            return Caller(client_group(address), address, None, local, keys, local), query
        digest, token, query = self._take_token(path, query, names, headers, head, address)
        if token is None or digest is None:
            raise no_token()
        self._befriend(address, digest)
        return (
            Caller(f"token {token.id}", address, token, local, True, len(self._tokens) == 1),
            query,
        )

    def is_right(self, address: str, given: str, secret: str) -> bool:
        """Whether `given` is the secret; "" is no guess. Raises GatewayError 429 where too many
        wrong ones came from `address`, unless this very one has been right there before."""
        if not given:
            return False
        digest = self._digest(given)
        visitor = self._visitors.get(client_group(address))
        if not (visitor and digest in visitor.friends):
            self._slow_down(address)
        if not same(given, secret):
            self._failed(address)
            return False
        self._befriend(address, digest)
        return True

    def _failed(self, address: str) -> None:
        """A wrong secret came from `address`."""
        now = time.monotonic()
        visitor = self._visitor(client_group(address))
        if now - visitor.since > _WINDOW_SECONDS:
            visitor.since, visitor.failures = now, 0
        visitor.failures += 1

    def _slow_down(self, address: str) -> None:
        """Raises GatewayError 429 while too many wrong secrets have come from `address`.

        Nothing waits here: a guess that is not looked at costs the guesser as much as a delay.
        """
        visitor = self._visitors.get(client_group(address))
        if visitor is not None and visitor.failures >= _MAX_FAILURES:
            left = visitor.since + _WINDOW_SECONDS - time.monotonic()
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
    ) -> tuple[bytes | None, AccessToken | None, str]:
        """Takes every token off the request; the first one is the caller's."""
        digest: bytes | None = None
        token: AccessToken | None = None
        shown = False
        taken = 0
        for name in HEADERS:
            if name not in names:
                continue
            values = headers.getall(name, ())
            kept = []
            for value in values:
                mark = self._digest(bare) if (bare := bare_token(value)) else b""
                shown = shown or bool(bare)
                found = self._tokens.get(mark)
                if found is None or not same(found.val, bare):
                    kept.append(value)
                else:
                    taken += 1
                    if name == HEADERS[-1] or token is None:  # ours speaks louder
                        digest, token = mark, found
            if name == HEADERS[-1]:
                kept = []
            if len(kept) < len(values):
                headers.popall(name, ())
                for value in kept:
                    headers.add(name, value)
        if "key=" in query:
            parts = []
            for part in query.split("&"):
                name, _, value = part.partition("=")
                if unquote_plus(name) == "key" and (bare := bare_token(unquote_plus(value))):
                    mark = self._digest(bare)
                    found = self._tokens.get(mark)
                    here = path.startswith("/gemini/")
                    shown = shown or here
                    if found is not None and same(found.val, bare):
                        taken += value == found.val  # written otherwise, it is not in the head
                        if token is None and here:
                            digest, token = mark, found
                        continue
                parts.append(part)
            query = "&".join(parts)
        visitor = self._visitors.get(client_group(address))
        if shown and not (visitor and digest in visitor.friends):
            self._slow_down(address)
        if token is None:
            if shown:
                self._failed(address)
            return None, None, query
        if head.count(token.val.encode()) > taken:
            query = _scrub(token.val, path, query, headers)
        return digest, token, query

    def _befriend(self, address: str, digest: bytes) -> None:
        visitor = self._visitors.get(client_group(address)) or self._visitor(client_group(address))
        if digest not in visitor.friends:
            visitor.friends = [*visitor.friends, digest][-_MAX_FRIENDS:]

    def _visitor(self, group: str) -> _Visitor:
        visitor = self._visitors.get(group)
        if visitor is None:
            visitor = self._visitors[group] = _Visitor()
            if len(self._visitors) > _MAX_ADDRESSES:
                self._visitors.popitem(last=False)
        else:
            self._visitors.move_to_end(group)
        return visitor

    def _behind(self, peer: Peer, headers: Headers) -> str:
        """The last address that no trusted proxy of ours has: what stands left of it is a claim."""
        address = peer.address
        hops = ",".join(headers.getall("x-forwarded-for", ())).split(",")
        for hop in hops[: -_MAX_HOPS - 1 : -1]:
            plain = plain_address(hop.strip())
            if not plain:
                break
            address = plain
            if not is_in(plain, self._trusted):
                break
        return address

    def _digest(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogateescape"), key=self._salt).digest()


def same(one: str, other: str) -> bool:
    """Equality of secrets in a time that tells nothing of where they differ."""
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


def _scrub(secret: str, path: str, query: str, headers: Headers) -> str:
    """Takes a token off the places where nobody was asked to put it."""
    if secret in path:
        raise GatewayError(
            400, "Your access token stands in the path; send it in a header.", code="bad_path"
        )
    for name in {name for name, value in headers.items() if secret in value}:
        kept = [value for value in headers.popall(name, ()) if secret not in value]
        for value in kept:
            headers.add(name, value)
    return "&".join(part for part in query.split("&") if secret not in part)
