"""Connections to upstreams, directly or through a proxy: CONNECT, SOCKS5, TLS in TLS.

Three kinds of proxy: http, https and socks5, each with or without a password. A proxy gets the
upstream's host name as it is and looks it up itself. Every step may be cancelled and then leaves no
socket behind. No error holds a proxy's address, for it may hold a password.

The two handshakes are our own. python-socks takes passwords in ASCII only and wants both user and
password; of a CONNECT response it reads one packet, and what comes later stands in the tunnel.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, cast

from app.clients.address import Address, Proxy, Target
from app.clients.connect import P, adopt, connect_tcp
from app.clients.errors import describe, unreachable
from app.clients.http1_codec import ResponseReader
from app.clients.shortage import shortage
from app.clients.tls import TLSContext
from app.wire.errors import GatewayError


async def dial(target: Target, make_protocol: Callable[[], P], tls: TLSContext | None) -> P:
    """Opens a connection to `target` and returns its protocol, connected.

    `tls` is needed for https only. The caller limits the time. Raises GatewayError 502
    `upstream_unreachable`, 502 `upstream_bad_response` for a proxy that breaks HTTP, and 503 when
    this machine has run out of descriptors or memory.
    """
    proxy = target.proxy
    try:
        if proxy is None:
            sock = await connect_tcp(target.address)
        else:
            sock = await _connect_proxy(proxy)
            if proxy.scheme == "https":
                return await _through_tls_proxy(target, proxy, sock, make_protocol, tls)
            if proxy.scheme == "socks5":
                await _closing_on_failure(sock, _socks5(sock, proxy, target.address))
            elif not target.forwarded:
                await _closing_on_failure(sock, _http_connect(sock, proxy, target.address))
        return await adopt(sock, make_protocol, tls, target)
    except (OSError, EOFError) as error:
        raise shortage(error) or unreachable(describe(error)) from error


async def _closing_on_failure(sock: socket.socket, step: Any) -> None:
    try:
        await step
    except BaseException:
        sock.close()
        raise


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


async def _connect_proxy(proxy: Proxy) -> socket.socket:
    try:
        return await connect_tcp(proxy.address)
    except OSError as error:
        raise shortage(error) or unreachable(f"its proxy: {describe(error)}") from error


def _connect_request(proxy: Proxy, address: Address) -> bytes:
    authority = address.authority
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{proxy.authorization}\r\n"
    return head.encode("latin-1")


def _read_connect_reply(reader: ResponseReader, data: bytes) -> bool:
    """Returns True when the tunnel is open.

    Bytes behind the response are refused: an upstream sends nothing before the client does.
    """
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
    """The SOCKS5 handshake (RFC 1928, RFC 1929). The proxy looks the host name up."""
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
    """TLS to the proxy; for https targets a tunnel through it, and TLS again inside the tunnel."""
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
    """The CONNECT exchange on a transport that is encrypted already."""

    def __init__(self) -> None:
        self._reader = ResponseReader(bodiless=True)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)

    async def establish(self, request: bytes) -> None:
        """Sends the CONNECT request; returns when the tunnel is open. Raises GatewayError 502."""
        self._transport.write(request)
        await self._done

    def data_received(self, data: bytes) -> None:
        """Reads the proxy's response (asyncio.Protocol)."""
        if self._done.done():
            self._transport.abort()
            return
        try:
            if _read_connect_reply(self._reader, data):
                self._done.set_result(None)
        except GatewayError as error:
            self._done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails an exchange that is not complete (asyncio.Protocol)."""
        if not self._done.done():
            self._done.set_exception(unreachable("its proxy closed the connection"))
