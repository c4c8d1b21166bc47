"""Ways through proxies: CONNECT, socks5, TLS in TLS."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

from app.clients.address import Address, P, Proxy, Target, unreachable, why
from app.clients.connect import connect_first, connect_one
from app.clients.http1_codec import ResponseReader
from app.clients.shortage import shortage
from app.clients.tls import TLSContext
from app.wire.errors import GatewayError


def _alternating(places: list[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """The resolver's order, but with the address families taking turns."""
    first = [place for place in places if place[0] == places[0][0]]
    other = [place for place in places if place[0] != places[0][0]]
    for i in range(max(len(first), len(other))):
        yield from first[i : i + 1]
        yield from other[i : i + 1]


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
        return await connect_one(*places[0])
    return await connect_first(places)


async def _closing_on_failure(sock: socket.socket, step: Any) -> None:
    try:
        await step
    except BaseException:
        sock.close()
        raise


async def _adopt(
    sock: socket.socket, make_protocol: Callable[[], P], tls: TLSContext | None, target: Target
) -> P:
    """Hands a connected socket to the loop, with TLS for https. Closes it on failure."""
    loop = asyncio.get_running_loop()
    if target.scheme == "https":
        _, protocol = await loop.create_connection(
            make_protocol, sock=sock, ssl=tls, server_hostname=target.address.host
        )
    else:
        _, protocol = await loop.create_connection(make_protocol, sock=sock)
    return protocol


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


async def dial(target: Target, make_protocol: Callable[[], P], tls: TLSContext | None) -> P:
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
    make_protocol: Callable[[], P],
    tls: TLSContext | None,
) -> P:
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
