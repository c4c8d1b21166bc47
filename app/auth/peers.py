"""TCP peers: addresses, trusted proxies, local callers, web pages."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from msgspec import Struct

# Headers that may carry an access token. The last is the gateway's own; beside it, the others may
# carry an upstream credential of the caller.
TOKEN_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "x-access-token")
# A request with one of these headers, or any X-Forwarded-..., came through a proxy: the address of
# the TCP peer is then not the client's.
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
# Matched against the whole host: 127.0.0.1.evil.example is a public name.
_LOCAL_HOST = re.compile(
    r"(?:localhost|[a-z0-9_-]+|(?:[a-z0-9_-]+\.)+(?:localhost|local|internal|lan|home\.arpa)"
    r"|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?",
    re.IGNORECASE,
).fullmatch
Network = IPv4Network | IPv6Network


class Headers(Protocol):
    """Request headers: a case-insensitive multidict, as sanic.compat.Header is."""

    def get(self, name: str, default: str = "", /) -> str:
        """The first value of a name."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """All values of a name."""

    def popall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """Removes a name. Returns its values."""

    def add(self, name: str, value: str, /) -> None:
        """Adds one more value to a name."""

    def items(self) -> Iterable[tuple[str, str]]:
        """All pairs of name and value."""


class Peer(Struct, frozen=True):
    """Facts about a TCP peer, computed once per connection."""

    address: str
    is_local: bool
    is_trusted: bool  # in `trusted_proxies`: its X-Forwarded-For is believed


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and CIDR blocks as networks. Raises ValueError."""
    return tuple(ip_network(text, strict=False) for text in texts)


def plain_address(text: str) -> str:
    """The canonical form of an IP address, without port and zone; "" if it is not one.

    An IPv4 address mapped into IPv6 becomes IPv4.
    """
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


def is_loopback(plain: str) -> bool:
    """Whether a canonical address is a loopback one; False for ""."""
    return bool(plain) and ip_address(plain).is_loopback


def in_networks(plain: str, networks: tuple[Network, ...]) -> bool:
    """Whether a canonical address belongs to one of the networks; False for ""."""
    if not plain or not networks:
        return False
    address = ip_address(plain)
    return any(address in network for network in networks)


def client_group(plain: str) -> str:
    """Key for per-client limits: the address, or an IPv6 /64, which one client usually owns."""
    if ":" not in plain:
        return plain
    return str(IPv6Network((plain, 64), strict=False).network_address)


# Header names and hosts seen before that need no further check. Bounded, as callers choose them.
_plain_names: set[str] = set()
_local_hosts: set[str] = set()
_MAX_KNOWN = 1024
_MAX_LENGTH = 64


def is_forwarded(names: set[str]) -> bool:
    """Whether a request with these header names (lower-cased) came through a proxy."""
    if _plain_names >= names:
        return False
    if not _FORWARDED.isdisjoint(names):
        return True
    if any(name.startswith("x-forwarded-") for name in names):
        return True
    if len(_plain_names) < _MAX_KNOWN:
        _plain_names.update(name for name in names if len(name) <= _MAX_LENGTH)
    return False


def is_from_local_origin(names: set[str], headers: Headers) -> bool:
    """False for a web page of another site in a browser on this machine.

    Guards against DNS rebinding (the Host is then the site's own name) and cross-site requests (the
    Origin is then the site). A page can forge neither header.
    """
    host = headers.get("host", "localhost")
    if host not in _local_hosts:
        if not _LOCAL_HOST(host):
            return False
        if len(_local_hosts) < _MAX_KNOWN and len(host) <= _MAX_LENGTH:
            _local_hosts.add(host)
    # Browsers send this for origins that they trust, which loopback addresses are.
    if "sec-fetch-site" in names and headers.get("sec-fetch-site") == "cross-site":
        return False
    origin = headers.get("origin", "") if "origin" in names else ""
    if not origin:
        return True
    scheme, _, host = origin.partition("://")
    if scheme.lower() in ("http", "https"):
        return _LOCAL_HOST(host) is not None
    return bool(host)  # an app with its own scheme, such as app://; "null" may be any page
