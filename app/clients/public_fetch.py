"""Fetches the image URLs of requests, from public addresses only (no SSRF).

All addresses of the host name are checked, and the connection is made to one of them: a name that
resolves differently the second time changes nothing. Each redirect is checked again. Ports, size
and time are limited. Never through a proxy, which would look the name up itself.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from functools import cache
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from app.clients.shortage import shortage
from app.clients.tls import TLSContext, tls_context
from app.wire.errors import GatewayError

MAX_BYTES = 20 * 1024 * 1024
MAX_SECONDS = 20.0
MAX_REDIRECTS = 3
PORTS = (80, 443)
# For all images of one call.
MAX_PICTURES = 16
MAX_TOTAL_BYTES = 40 * 1024 * 1024
MAX_TOTAL_SECONDS = 60.0

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Returns all addresses of a host name. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_public(address: str) -> bool:
    """Whether an address is that of a host on the internet; False for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
    if isinstance(ip, ipaddress.IPv6Address):
        if ip not in _GLOBAL_UNICAST or any(ip in network for network in _SPECIAL_6):
            return False
    elif any(ip in network for network in _SPECIAL_4):
        return False
    return ip.is_global and not ip.is_multicast


# Reserved by IANA, though Python's `is_global` lets some of them pass.
_SPECIAL_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "168.63.129.16/32",  # the host of a virtual machine at Azure
        "192.0.0.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
    )
]
_SPECIAL_6 = [
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Get(Protocol):
    """How `Pictures` fetches one URL."""

    async def __call__(self, url: str, *, max_bytes: int) -> tuple[str, bytes]:
        """Returns (media type, content); see `fetch`."""


class Pictures:
    """The images at the URLs of one call, fetched once for all of its attempts."""

    def __init__(self, get: Get | None = None) -> None:
        self._get = get or fetch
        self._found: dict[str, tuple[str, bytes] | GatewayError] = {}
        self._left = MAX_TOTAL_BYTES
        self._lock = asyncio.Lock()

    async def get(self, urls: Collection[str]) -> dict[str, tuple[str, bytes]]:
        """Returns (media type, content) by URL. Raises GatewayError 400 if one of them fails."""
        if len(urls) > MAX_PICTURES:
            raise _refused(
                f"The request has {len(urls)} image URLs, and the gateway fetches at most "
                f"{MAX_PICTURES}; send the images as data: URLs instead."
            )
        try:
            async with self._lock, asyncio.timeout(MAX_TOTAL_SECONDS):
                return {url: await self._once(url) for url in urls}
        except TimeoutError:
            raise _refused(
                f"Fetching the images of the request took longer than {MAX_TOTAL_SECONDS:.0f} s; "
                "send them as data: URLs instead."
            ) from None

    async def _once(self, url: str) -> tuple[str, bytes]:
        found = self._found.get(url)
        if found is None:
            try:
                found = await self._get(url, max_bytes=min(MAX_BYTES, self._left))
                self._left -= len(found[1])
            except GatewayError as error:
                found = error
            self._found[url] = found
        if isinstance(found, GatewayError):
            raise found
        return found


async def fetch(
    url: str,
    *,
    max_bytes: int = MAX_BYTES,
    resolve: Resolve = resolve,
    allowed: Callable[[str], bool] = is_public,
    ports: Collection[int] = PORTS,
) -> tuple[str, bytes]:
    """Returns (media type, content) of `url`. Raises GatewayError 400 with the reason.

    `resolve`, `allowed` and `ports` are for tests.
    """
    # httpx is loaded with the first image and in a thread: every worker would start later for it.
    httpx = await asyncio.to_thread(_load)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            for _ in range(MAX_REDIRECTS + 1):
                found = await _once(url, max_bytes, resolve, allowed, ports)
                if isinstance(found, tuple):
                    return found
                url = found
    except TimeoutError:
        raise _refusal(f"took longer than {MAX_SECONDS:.0f} s") from None
    except (httpx.TransportError, httpx.InvalidURL, OSError, ValueError) as error:
        ours = shortage(error)
        raise ours or _refusal(f"cannot be reached ({type(error).__name__})") from None
    raise _refusal("redirects too often")


def _load() -> Any:
    shared_tls()
    return import_module("httpx")


@cache
def shared_tls() -> TLSContext:
    """The TLS context of all fetches: reading the authorities takes longer than most images do."""
    return tls_context()


async def _once(
    url: str,
    max_bytes: int,
    resolve: Resolve,
    allowed: Callable[[str], bool],
    ports: Collection[int],
) -> tuple[str, bytes] | str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise _refusal("is no plain http(s) URL")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise _refusal("has no valid port") from None
    if port not in ports:
        raise _refusal("has another port than 80 and 443")
    addresses = await resolve(parts.hostname, port)
    if not addresses or not all(map(allowed, addresses)):
        raise _refusal("is not on the public internet")
    host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    pinned = parts._replace(netloc=f"{host}:{port}", fragment="").geturl()
    import httpx  # see `fetch`

    transport = httpx.AsyncHTTPTransport(verify=shared_tls())
    try:
        response = await transport.handle_async_request(
            httpx.Request(
                "GET",
                pinned,
                headers={"host": parts.netloc, "accept": "image/*, */*", "user-agent": "any-proxy"},
                extensions={"sni_hostname": parts.hostname},
            )
        )
        if response.status_code in (301, 302, 303, 307, 308):
            location: str = response.headers.get("location", "")
            return urljoin(url, location)
        if response.status_code != 200:
            raise _refusal(f"answers HTTP {response.status_code}")
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > max_bytes:
                raise _refusal(
                    f"is larger than {MAX_BYTES} bytes, or with the others than {MAX_TOTAL_BYTES}"
                )
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind or "application/octet-stream", bytes(content)
    finally:
        await transport.aclose()


def _refusal(why: str) -> GatewayError:
    return _refused(f"An image URL of the request {why}; send the image as a data: URL instead.")


def _refused(message: str) -> GatewayError:
    return GatewayError(400, message, code="image_not_fetched", param="messages")


def fetch_not_allowed() -> GatewayError:
    """400 for callers who may not use the gateway's keys: it would fetch for anybody."""
    return _refused(
        "The gateway fetches images by URL only for callers who may use its keys; send the image "
        "as a data: URL instead."
    )
