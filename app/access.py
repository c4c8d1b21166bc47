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
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol
from urllib.parse import unquote_plus

from msgspec import Struct

from app.key_pool import bare_token
from app.wire.errors import GatewayError
from app.wire.settings import AccessToken, Config

# Where a token may stand. The last is ours alone; with it, the others may carry a credential of
# the caller's own.
HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "x-access-token")
# Asked by load balancers and by browsers before they ask anything else: no lock. Nor has "/".
_OPEN = frozenset({"/ping", "/healthz", "/readyz"})
# These look at their visitors themselves: `admin.token`, a picture's signed link.
_OWN_LOCK = re.compile(r"/(?:admin|metrics|gptimage)(?:/|\Z)").match
_UNLOCKED = (*_OPEN, "/admin", "/metrics", "/gptimage")

# A request that bears one of these, or any X-Forwarded-..., has come by way of a proxy: its
# connection says nothing about where it comes from.
_FORWARDED = frozenset(
    (
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-envoy-external-address",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "x-appengine-user-ip",
        "x-azure-clientip",
    )
)
# The whole host, that no public name can hide in it: 127.0.0.1.evil.example is one.
_LOCAL_HOST = re.compile(
    r"(?:localhost|[a-z0-9_-]+|(?:[a-z0-9_-]+\.)+(?:localhost|local|internal|lan|home\.arpa)"
    r"|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?",
    re.IGNORECASE,
).fullmatch

_MAX_HOPS = 32
_MAX_ADDRESSES = 10_000
_WINDOW_SECONDS = 60.0
_MAX_FAILURES = 20  # wrong tokens in one window from one address; then each has to wait
_MAX_FRIENDS = 8
_FINAL = (("x-should-retry", "false"),)

Network = IPv4Network | IPv6Network


class Headers(Protocol):
    """The caller's headers: looked up without regard to case, several values to a name."""

    def get(self, name: str, default: str = "", /) -> str: ...

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]: ...

    def popall(self, name: str, default: Sequence[str], /) -> Sequence[str]: ...

    def add(self, name: str, value: str, /) -> None: ...

    def items(self) -> Iterable[tuple[str, str]]: ...


class Peer(Struct, frozen=True):
    """The other end of a connection; worth working out once."""

    address: str
    is_local: bool
    is_trusted: bool  # a proxy whose X-Forwarded-For is believed


class Caller(Struct, frozen=True):
    """Whom a request comes from. `name` tells callers apart where they share something."""

    name: str = "-"
    address: str = ""
    token: AccessToken | None = None
    is_local: bool = False  # on this machine, and no web page of somebody else's
    may_use_keys: bool = True
    is_sole: bool = False  # nobody else is expected: all places are theirs

    def need_keys(self) -> None:
        """Raises GatewayError 401, saying how to allow it, unless the configured keys are theirs.

        To be asked before a configured key is chosen, or anything tells which there are.
        """
        if not self.may_use_keys:
            raise GatewayError(
                401,
                "The gateway's keys are for callers on its own machine: send an upstream "
                "credential of your own, or ask the operator for a token (access.tokens in the "
                "config; access.protected: false would let everybody in).",
                code="access_denied",
                headers=_FINAL,
            )

    def allow(self, provider: str, model: str | None) -> None:
        """Raises GatewayError 403 for what the caller's token is not for.

        `model` is without a provider prefix, None or "" when none could be made out.
        """
        self.allow_provider(provider)
        token = self.token
        if token is None or not token.models:
            return
        family = provider.partition("-")[0]
        model = (model or "").removeprefix("models/")  # Gemini's prefix
        names = (model, f"{family}/{model}") if model else ()
        if not any(fnmatchcase(name, pattern) for name in names for pattern in token.models):
            what = f"the model {model[:64]!r}" if model else "a request that names no model"
            raise _not_allowed(what, token.models)

    def allow_provider(self, provider: str) -> None:
        """The same, of the provider alone; its family counts."""
        token, family = self.token, provider.partition("-")[0]
        if token is not None and token.providers and family not in token.providers:
            raise _not_allowed(f"the provider {family}", token.providers)

    def may(self, provider: str, model: str | None) -> bool:
        """`allow` as a question."""
        try:
            self.allow(provider, model)
        except GatewayError:
            return False
        return True


OPERATOR = Caller()


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
        plain = _plain(address)
        return Peer(plain, _is_loopback(plain), _is_in(plain, self._trusted))

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
        forwarded = (peer.is_local or peer.is_trusted) and _is_forwarded(names)
        address = peer.address
        if forwarded and peer.is_trusted:
            address = self._behind(peer, headers)
        local = peer.is_local and not forwarded and _is_no_web_page(names, headers)
        if path == "/" or (
            path.startswith(_UNLOCKED) and (path.rstrip("/") in _OPEN or _OWN_LOCK(path))
        ):
            return Caller(address, address, None, local, local), query
        if not self._tokens:
            keys = local or self._open
            return Caller(_group(address), address, None, local, keys, local), query
        digest, token, query = self._take_token(path, query, names, headers, head, address)
        if token is None or digest is None:
            raise _no_token()
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
        visitor = self._visitors.get(_group(address))
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
        visitor = self._visitor(_group(address))
        if now - visitor.since > _WINDOW_SECONDS:
            visitor.since, visitor.failures = now, 0
        visitor.failures += 1

    def _slow_down(self, address: str) -> None:
        """Raises GatewayError 429 while too many wrong secrets have come from `address`.

        Nothing waits here: a guess that is not looked at costs the guesser as much as a delay.
        """
        visitor = self._visitors.get(_group(address))
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
        visitor = self._visitors.get(_group(address))
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
        visitor = self._visitors.get(_group(address)) or self._visitor(_group(address))
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
            plain = _plain(hop.strip())
            if not plain:
                break
            address = plain
            if not _is_in(plain, self._trusted):
                break
        return address

    def _digest(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogateescape"), key=self._salt).digest()


def same(one: str, other: str) -> bool:
    """Equality of secrets in a time that tells nothing of where they differ."""
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


def networks(written: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(text, strict=False) for text in written)


def _plain(text: str) -> str:
    """An address in its usual form without port and zone, "" for what is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _is_loopback(plain: str) -> bool:
    return bool(plain) and ip_address(plain).is_loopback


def _is_in(plain: str, known: tuple[Network, ...]) -> bool:
    if not plain or not known:
        return False
    address = ip_address(plain)
    return any(address in network for network in known)


def _group(plain: str) -> str:
    """Who has one IPv6 address usually has all of its /64."""
    if ":" not in plain:
        return plain
    return str(IPv6Network((plain, 64), strict=False).network_address)


# Names and hosts seen before, known to be harmless. Bounded, for callers choose them.
_innocent: set[str] = set()
_local_hosts: set[str] = set()
_MAX_KNOWN = 1024
_MAX_LENGTH = 64


def _is_forwarded(names: set[str]) -> bool:
    if _innocent >= names:
        return False
    if not _FORWARDED.isdisjoint(names):
        return True
    if any(name.startswith("x-forwarded-") for name in names):
        return True
    if len(_innocent) < _MAX_KNOWN:
        _innocent.update(name for name in names if len(name) <= _MAX_LENGTH)
    return False


def _is_no_web_page(names: set[str], headers: Headers) -> bool:
    """False for a page of somebody else in a browser on this machine.

    Such a page reaches us under its own name when that name has been pointed at this machine (the
    Host), or says where it is from (the Origin). Neither can be made up by the page.
    """
    host = headers.get("host", "localhost")
    if host not in _local_hosts:
        if not _LOCAL_HOST(host):
            return False
        if len(_local_hosts) < _MAX_KNOWN and len(host) <= _MAX_LENGTH:
            _local_hosts.add(host)
    # The browser's own word where it gives it, for addresses it trusts as this machine's.
    if "sec-fetch-site" in names and headers.get("sec-fetch-site") == "cross-site":
        return False
    origin = headers.get("origin", "") if "origin" in names else ""
    if not origin:
        return True
    scheme, _, host = origin.partition("://")
    if scheme.lower() in ("http", "https"):
        return _LOCAL_HOST(host) is not None
    return bool(host)  # a program with a scheme of its own; "null" may be anything


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


def _no_token() -> GatewayError:
    return GatewayError(
        401,
        "This gateway asks for an access token, and none that it knows came: send it as "
        "Authorization: Bearer <token> (where an SDK has its API key), or as x-access-token "
        "beside an upstream credential of your own.",
        code="access_denied",
        headers=(("www-authenticate", "Bearer"), *_FINAL),
    )


def _not_allowed(what: str, instead: Sequence[str]) -> GatewayError:
    return GatewayError(
        403,
        f"Your access token is not for {what}; it is for {', '.join(instead)[:200]}.",
        code="not_allowed",
        headers=_FINAL,
    )
