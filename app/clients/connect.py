"""TCP connections, and TLS over them.

Host names are looked up here. Every step may be cancelled and then leaves no socket behind.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection

from app.clients.address import Address, Target
from app.clients.tls import TLSContext

# How long the next of a host's addresses waits for the one before it (RFC 8305).
NEXT_ADDRESS_SECONDS = 0.25

P = TypeVar("P", bound=asyncio.Protocol)


async def connect_tcp(address: Address) -> socket.socket:
    """Returns a socket connected to one of the host's addresses. Raises OSError."""
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        infos: Sequence[AddrInfoType] = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        infos = [(family, socket.SOCK_STREAM, 0, "", (address.host, address.port))]
    return await connect_first(infos)


async def connect_first(infos: Sequence[AddrInfoType]) -> socket.socket:
    """Returns a socket to the first address that answers ("happy eyeballs", RFC 8305).

    Raises OSError, without errno when the addresses failed for different reasons.
    """
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    sock = await start_connection(
        infos, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, socket_factory=_new_socket
    )
    if task.cancelling() > cancellations:  # the library drops one that comes at its very end
        sock.close()
        raise asyncio.CancelledError
    return sock


def _new_socket(info: AddrInfoType) -> socket.socket:
    sock = socket.socket(*info[:3])
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # a vanished upstream is noticed within 2 minutes
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    return sock


async def adopt(
    sock: socket.socket, make_protocol: Callable[[], P], tls: TLSContext | None, target: Target
) -> P:
    """Gives a connected socket to the event loop, with TLS for https. Closes it on failure."""
    loop = asyncio.get_running_loop()
    if target.scheme == "https":
        _, protocol = await loop.create_connection(
            make_protocol, sock=sock, ssl=tls, server_hostname=target.address.host
        )
    else:
        _, protocol = await loop.create_connection(make_protocol, sock=sock)
    return protocol
