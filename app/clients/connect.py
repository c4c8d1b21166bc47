"""From an address to an open connection: DNS, TCP, proxies, TLS.

Knows three kinds of proxy (http, https, socks5, each with or without a password) and hands a host
name to the proxy as it is: names are looked up here for direct connections only. Every step may be
cancelled and then leaves no socket. No error tells a proxy's address, for it may hold a password.
"""

import asyncio
import socket
from typing import Any

# RFC 8305: how long the next address waits for the one before it.
NEXT_ADDRESS_SECONDS = 0.25


async def connect_one(family: int, place: Any) -> socket.socket:
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
                attempt = asyncio.create_task(connect_one(*waiting.pop()), name="dial an address")
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
