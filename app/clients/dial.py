"""From an address to an open connection: DNS, TCP, proxies, TLS.

Knows three kinds of proxy (http, https, socks5, each with or without a password) and hands a host
name to the proxy as it is: names are looked up here for direct connections only. Every step may be
cancelled and then leaves no socket. No error tells a proxy's address, for it may hold a password.
"""

import asyncio
import base64
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, unquote, urlsplit

import certifi
from msgspec import Struct

from app.clients.http1 import ResponseReader, bad_path
from app.clients.shortage import shortage
from app.wire.errors import GatewayError

# RFC 8305: how long the next address waits for the one before it.
NEXT_ADDRESS_SECONDS = 0.25
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_SOCKS5_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class Address(Struct, frozen=True):
    """A host and port; `host` has no brackets, and is ASCII."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy(Struct, frozen=True):
    scheme: str
    address: Address
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Proxy({self.scheme})"

    @property
    def authorization(self) -> str:
        """The header line for http proxies, "" without credentials."""
        if not (self.user or self.password):
            return ""
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Proxy-Authorization: Basic {pair}\r\n"


class Target(Struct, frozen=True):
    """Where requests of one origin go. `forwarded`: an http proxy reads each request itself."""

    scheme: str
    address: Address
    host_header: str
    proxy: Proxy | None

    @property
    def forwarded(self) -> bool:
        return (
            self.scheme == "http"
            and self.proxy is not None
            and self.proxy.scheme in ("http", "https")
        )


def parse_target(origin: str, proxy: str | None) -> Target:
    """`origin` is "scheme://host[:port]". Raises GatewayError 400 `bad_path`, 500 `bad_proxy`."""
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


# --- errors ---------------------------------------------------------------------------------------


def unreachable(why: str) -> GatewayError:
    return GatewayError(
        502,
        f"The upstream cannot be reached ({why}).",
        code="upstream_unreachable",
        outcome="upstream_unreachable",
    )


def why(error: BaseException) -> str:
    """A failure in words that hold no address: neither ours, nor a proxy's with its password."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return "its host name has no address"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'the connection was closed'}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return type(error).__name__


# --- TLS ------------------------------------------------------------------------------------------


class TLSContext(ssl.SSLContext):
    """Verifying, HTTP/1.1 only, and resuming: a host's last session is offered to it again.

    asyncio and uvloop have no parameter for a session, but both make their TLS objects through
    `wrap_bio`. A session that the upstream no longer knows costs nothing but the full handshake.
    Sessions are this process's and this context's own; TLS 1.3 early data is not used.
    """

    sessions: dict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if isinstance(server_hostname, str):
            session = self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, made: ssl.SSLObject) -> None:
        """Called once a response came: with TLS 1.3, sessions arrive after the handshake."""
        session = made.session
        if session is not None and session.has_ticket and isinstance(made.server_hostname, str):
            self.sessions[made.server_hostname] = session


def tls_context() -> TLSContext:
    """Trusts SSL_CERT_FILE and SSL_CERT_DIR when they are set, else certifi's collection."""
    context = TLSContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.set_alpn_protocols(["http/1.1"])
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context.load_verify_locations(file or None, folder or None)
    else:
        context.load_verify_locations(certifi.where())
    return context


# --- dialing --------------------------------------------------------------------------------------

_P = TypeVar("_P", bound=asyncio.Protocol)


async def dial(target: Target, make_protocol: Callable[[], _P], tls: TLSContext | None) -> _P:
    """An open connection to `target`, its protocol connected. `tls` is needed for https only.

    Raises GatewayError 502 `upstream_unreachable`. Whoever calls it sets the limit of time.
    """
    proxy = target.proxy
    try:
        if proxy is None:
            sock = await _connect(target.address)
        else:
            sock = await _connect_proxy(proxy)
            if proxy.scheme == "https":
                return await _through_tls_proxy(target, proxy, sock, make_protocol, tls)
            if proxy.scheme == "socks5":
                await _closing_on_failure(sock, _socks5(sock, proxy, target.address))
            elif not target.forwarded:
                await _closing_on_failure(sock, _http_connect(sock, proxy, target.address))
        return await _adopt(sock, make_protocol, tls, target)
    except (OSError, EOFError) as error:
        raise shortage(error) or unreachable(why(error)) from error


async def _connect_proxy(proxy: Proxy) -> socket.socket:
    try:
        return await _connect(proxy.address)
    except OSError as error:
        raise shortage(error) or unreachable(f"its proxy: {why(error)}") from error


async def _adopt(
    sock: socket.socket, make_protocol: Callable[[], _P], tls: TLSContext | None, target: Target
) -> _P:
    """Hands a connected socket to the loop, with TLS for https. Closes it on failure."""
    loop = asyncio.get_running_loop()
    if target.scheme == "https":
        _, protocol = await loop.create_connection(
            make_protocol, sock=sock, ssl=tls, server_hostname=target.address.host
        )
    else:
        _, protocol = await loop.create_connection(make_protocol, sock=sock)
    return protocol


async def _closing_on_failure(sock: socket.socket, step: Any) -> None:
    try:
        await step
    except BaseException:
        sock.close()
        raise


async def _connect(address: Address) -> socket.socket:
    """TCP, to the first of the host's addresses that answers (RFC 8305, "happy eyeballs")."""
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        infos = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
        places = list(_alternating([(info[0], info[4]) for info in infos]))
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        places = [(family, (address.host, address.port))]
    if len(places) == 1:
        return await _connect_one(*places[0])
    return await connect_first(places)


def _alternating(places: list[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """The resolver's order, but with the address families taking turns."""
    first = [place for place in places if place[0] == places[0][0]]
    other = [place for place in places if place[0] != places[0][0]]
    for i in range(max(len(first), len(other))):
        yield from first[i : i + 1]
        yield from other[i : i + 1]


async def _connect_one(family: int, place: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):  # a vanished upstream is noticed within 2 minutes
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_first(places: list[tuple[int, Any]]) -> socket.socket:
    """Starts one attempt after another; asyncio's own is missing in uvloop."""
    waiting = list(reversed(places))
    attempts: set[asyncio.Task[socket.socket]] = set()
    failure: BaseException | None = None
    winner: socket.socket | None = None
    try:
        while winner is None and (waiting or attempts):
            if waiting:
                attempt = asyncio.create_task(_connect_one(*waiting.pop()), name="dial an address")
                attempts.add(attempt)
            done, attempts = await asyncio.wait(
                attempts,
                timeout=NEXT_ADDRESS_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                error = attempt.exception()
                if error is not None:
                    failure = failure or error
                elif winner is None:
                    winner = attempt.result()
                else:
                    attempt.result().close()
    finally:
        for attempt in attempts:
            attempt.cancel()
        try:
            for late in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(late, socket.socket):
                    late.close()
        except BaseException:
            if winner is not None:
                winner.close()
            raise
    if winner is not None:
        return winner
    raise failure or OSError("no address")


# --- proxies --------------------------------------------------------------------------------------


def _connect_request(proxy: Proxy, address: Address) -> bytes:
    authority = address.authority
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{proxy.authorization}\r\n"
    return head.encode("latin-1")


def _read_connect_reply(reader: ResponseReader, data: bytes) -> bool:
    """True when the tunnel stands. The upstream says nothing before we do: more is refused."""
    if not data:
        raise unreachable("its proxy closed the connection")
    reader.feed(data)
    if not reader.has_head:
        return False
    if not 200 <= reader.status < 300:
        raise unreachable(f"its proxy answered {reader.status}")
    if reader.surplus:
        raise unreachable("its proxy sent more than an answer")
    return True


async def _http_connect(sock: socket.socket, proxy: Proxy, address: Address) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _connect_request(proxy, address))
    reader = ResponseReader(bodiless=True)
    while not _read_connect_reply(reader, await loop.sock_recv(sock, 4096)):
        pass


async def _socks5(sock: socket.socket, proxy: Proxy, address: Address) -> None:
    """RFC 1928 and 1929. The proxy looks the name up."""
    loop = asyncio.get_running_loop()

    async def receive(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await loop.sock_recv(sock, count - len(data))
            if not piece:
                raise unreachable("its proxy closed the connection")
            data += piece
        return data

    user, password = proxy.user.encode(), proxy.password.encode()
    with_password = bool(user or password)
    await loop.sock_sendall(sock, b"\x05\x02\x00\x02" if with_password else b"\x05\x01\x00")
    version, method = await receive(2)
    if version != 5 or method not in (0, 2) or (method == 2 and not with_password):
        raise unreachable("its proxy is no socks5 proxy, or wants another way to log in")
    if method == 2:
        if not (0 < len(user) < 256 and len(password) < 256):
            raise unreachable("its proxy's user or password is empty or too long for socks5")
        await loop.sock_sendall(
            sock, bytes((1, len(user))) + user + bytes((len(password),)) + password
        )
        if (await receive(2))[1] != 0:
            raise unreachable("its proxy refused the user and password")
    await loop.sock_sendall(sock, b"\x05\x01\x00" + _socks5_address(address))
    version, code, _, kind = await receive(4)
    if version != 5 or code != 0:
        raise unreachable(f"its proxy: {_SOCKS5_REFUSALS.get(code, 'unknown answer')}")
    if kind not in (1, 3, 4):
        raise unreachable("its proxy: unknown answer")
    length = (await receive(1))[0] if kind == 3 else 4 if kind == 1 else 16
    await receive(length + 2)


def _socks5_address(address: Address) -> bytes:
    port = address.port.to_bytes(2, "big")
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        name = address.host.encode()
        if len(name) > 255:
            raise unreachable("its host name is too long") from None
        return bytes((3, len(name))) + name + port
    return (b"\x01" if ip.version == 4 else b"\x04") + ip.packed + port


async def _through_tls_proxy(
    target: Target,
    proxy: Proxy,
    sock: socket.socket,
    make_protocol: Callable[[], _P],
    tls: TLSContext | None,
) -> _P:
    """TLS to the proxy; for https targets a tunnel through it, and TLS again inside."""
    loop = asyncio.get_running_loop()
    if target.forwarded:
        _, protocol = await loop.create_connection(
            make_protocol, sock=sock, ssl=tls, server_hostname=proxy.address.host
        )
        return protocol
    transport, tunnel = await loop.create_connection(
        _Tunnel, sock=sock, ssl=tls, server_hostname=proxy.address.host
    )
    try:
        await tunnel.establish(_connect_request(proxy, target.address))
        protocol = make_protocol()
        assert tls is not None
        # start_tls() leaves connection_made() to its caller.
        inner = await loop.start_tls(transport, protocol, tls, server_hostname=target.address.host)
        if inner is None or inner.is_closing():
            raise EOFError
        protocol.connection_made(inner)
    except BaseException:
        transport.abort()
        raise
    return protocol


class _Tunnel(asyncio.Protocol):
    """The CONNECT exchange over a transport that is encrypted already."""

    def __init__(self) -> None:
        self._reader = ResponseReader(bodiless=True)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def establish(self, request: bytes) -> None:
        self._transport.write(request)
        await self._done

    def data_received(self, data: bytes) -> None:
        if self._done.done():
            self._transport.abort()
            return
        try:
            if _read_connect_reply(self._reader, data):
                self._done.set_result(None)
        except GatewayError as error:
            self._done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(unreachable("its proxy closed the connection"))
