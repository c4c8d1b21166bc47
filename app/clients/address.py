"""Addresses of upstreams and proxies, parsed from the URLs of the config."""

import base64
import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from app.clients.errors import bad_path
from app.wire.errors import GatewayError

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_HOST = re.compile(r"[A-Za-z0-9._-]+")


class Address(Struct, frozen=True):
    """A host and port; `host` has no brackets, and is ASCII."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """host:port, as CONNECT has it; an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy(Struct, frozen=True):
    """A proxy; `scheme` is "http", "https" or "socks5". Its repr holds no credentials."""

    scheme: str
    address: Address
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Proxy({self.scheme})"

    @property
    def authorization(self) -> str:
        """The Proxy-Authorization header line for http proxies, "" without credentials."""
        if not (self.user or self.password):
            return ""
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Proxy-Authorization: Basic {pair}\r\n"


class Target(Struct, frozen=True):
    """Where the requests of one origin go. `host_header` has the port unless it is the default."""

    scheme: str
    address: Address
    host_header: str
    proxy: Proxy | None

    @property
    def forwarded(self) -> bool:
        """Whether an http proxy reads each request itself: no tunnel, no TLS to the upstream."""
        return (
            self.scheme == "http"
            and self.proxy is not None
            and self.proxy.scheme in ("http", "https")
        )


def parse_target(origin: str, proxy: str | None) -> Target:
    """Parses `origin`, "scheme://host[:port]", and the URL of a proxy.

    Raises GatewayError 400 `bad_path`, 500 `bad_proxy`.
    """
    parts = _split(origin)
    if parts is None or parts.scheme not in ("http", "https"):
        raise bad_path("The upstream's address is not an http or https URL.")
    if parts.username is not None or parts.password is not None:
        raise bad_path("The upstream's address must not hold a user or password.")
    address = Address(_host(parts.hostname or ""), parts.port or _DEFAULT_PORTS[parts.scheme])
    host = f"[{address.host}]" if ":" in address.host else address.host
    if address.port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{address.port}"
    return Target(parts.scheme, address, host, parse_proxy(proxy) if proxy else None)


def parse_proxy(url: str) -> Proxy:
    """Parses the URL of a proxy; socks5h is the same as socks5. Raises GatewayError 500."""
    parts = _split(url)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise GatewayError(
            500,
            "The proxy's address must be http://, https://, socks5:// or socks5h://"
            "[user:password@]host:port.",
            code="bad_proxy",
        )
    return Proxy(
        "socks5" if parts.scheme == "socks5h" else parts.scheme,
        Address(_host(parts.hostname), parts.port or _DEFAULT_PORTS[parts.scheme]),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def with_remote_dns(proxy: str) -> str:
    """The proxy's URL for libraries to which socks5 means: look names up here.

    In this room the proxy always does, which they call socks5h.
    """
    if proxy.lower().startswith("socks5://"):
        return "socks5h" + proxy[6:]
    return proxy


def _split(url: str) -> SplitResult | None:
    if " " in url or not url.isprintable():  # urlsplit() would silently drop some of these
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def _host(host: str) -> str:
    try:
        if ":" in host:
            return str(ipaddress.IPv6Address(host.partition("%")[0]))
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError:
        host = ""
    if not _HOST.fullmatch(host):
        raise bad_path("The upstream's address holds no usable host name.")
    return host
