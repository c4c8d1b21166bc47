"""A caller's URL fetched, without letting the caller look into our network.

Every address the name has is checked before the connection is made to one of those very
addresses, and again at every redirect: a name that resolves differently the second time changes
nothing. Size and time are capped. Never through a proxy: it would resolve the name itself.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from importlib import import_module
from urllib.parse import urljoin, urlsplit

from app.clients.shortage import shortage
from app.wire.errors import GatewayError

MAX_BYTES = 20 * 1024 * 1024
MAX_SECONDS = 20.0
MAX_REDIRECTS = 3

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_public(address: str) -> bool:
    """False for private, loopback, link-local, multicast, reserved addresses, however written."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


async def fetch(
    url: str, *, resolve: Resolve = resolve, allowed: Callable[[str], bool] = is_public
) -> tuple[str, bytes]:
    """The mime type and content at `url`. Raises GatewayError 400 saying why it cannot be had."""
    # Loaded with the first picture and beside the loop: every worker would start later for it.
    httpx = await asyncio.to_thread(import_module, "httpx")
    try:
        async with asyncio.timeout(MAX_SECONDS):
            for _ in range(MAX_REDIRECTS + 1):
                found = await _once(url, resolve, allowed)
                if isinstance(found, tuple):
                    return found
                url = found
    except TimeoutError:
        raise _refusal(f"took longer than {MAX_SECONDS:.0f} s") from None
    except (httpx.TransportError, httpx.InvalidURL, OSError, UnicodeError) as error:
        ours = shortage(error)
        raise ours or _refusal(f"cannot be reached ({type(error).__name__})") from None
    raise _refusal("redirects too often")


async def _once(
    url: str, resolve: Resolve, allowed: Callable[[str], bool]
) -> tuple[str, bytes] | str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise _refusal("is no plain http(s) URL")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise _refusal("has no valid port") from None
    addresses = await resolve(parts.hostname, port)
    if not addresses or not all(map(allowed, addresses)):
        raise _refusal("is not on the public internet")
    host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    pinned = parts._replace(netloc=f"{host}:{port}", fragment="").geturl()
    import httpx  # see `fetch`

    transport = httpx.AsyncHTTPTransport()
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
            if len(content) > MAX_BYTES:
                raise _refusal(f"is larger than {MAX_BYTES} bytes")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind or "application/octet-stream", bytes(content)
    finally:
        await transport.aclose()


def _refusal(why: str) -> GatewayError:
    return GatewayError(
        400,
        f"An image URL of the request {why}; send the image as a data: URL instead.",
        code="image_not_fetched",
        param="messages",
    )
