"""TCP peers: trusted proxies, local callers, web pages."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from msgspec import Struct

# Where a token may stand. The last is ours alone; with it, the others may carry a credential of
# the caller's own.
HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "x-access-token")
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


def networks(written: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(text, strict=False) for text in written)


def plain_address(text: str) -> str:
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


def is_loopback(plain: str) -> bool:
    return bool(plain) and ip_address(plain).is_loopback


def is_in(plain: str, known: tuple[Network, ...]) -> bool:
    if not plain or not known:
        return False
    address = ip_address(plain)
    return any(address in network for network in known)


def client_group(plain: str) -> str:
    """Who has one IPv6 address usually has all of its /64."""
    if ":" not in plain:
        return plain
    return str(IPv6Network((plain, 64), strict=False).network_address)


# Names and hosts seen before, known to be harmless. Bounded, for callers choose them.
_innocent: set[str] = set()
_local_hosts: set[str] = set()
_MAX_KNOWN = 1024
_MAX_LENGTH = 64


def is_forwarded(names: set[str]) -> bool:
    if _innocent >= names:
        return False
    if not _FORWARDED.isdisjoint(names):
        return True
    if any(name.startswith("x-forwarded-") for name in names):
        return True
    if len(_innocent) < _MAX_KNOWN:
        _innocent.update(name for name in names if len(name) <= _MAX_LENGTH)
    return False


def is_no_web_page(names: set[str], headers: Headers) -> bool:
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
