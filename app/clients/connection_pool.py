"""The connection pool of one origin: which connections are idle, and for how long they are kept.

A pool neither opens connections nor waits for them: `Transport` does the first, and there is no
limit on their number, so nobody waits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from app.clients.address import Target
from app.clients.tls import TLSContext

if TYPE_CHECKING:
    from app.clients.connection import Connection


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of one origin's pool: one upstream starves no other."""

    max_idle: int = 256
    idle_seconds: float = 30.0
    write_seconds: float = 60.0  # an upstream that stops reading is given up after this


class Origin:
    """The connections of one (scheme, host, port, proxy)."""

    __slots__ = (
        "_sweep_later",
        "connections",
        "dialing",
        "idle",
        "limits",
        "prefix",
        "proxy_line",
        "target",
        "tls",
    )

    def __init__(self, target: Target, limits: Limits, sweep_later: Callable[[], None]) -> None:
        """`sweep_later` is called whenever a connection becomes idle; see `Transport`."""
        self.target = target
        # An http proxy that reads the request wants the whole address in it, and its password.
        self.prefix = f"{target.scheme}://{target.host_header}" if target.forwarded else ""
        self.proxy_line = target.proxy.authorization if target.forwarded and target.proxy else ""
        self.tls: TLSContext | None = None
        self.idle: list[Connection] = []  # last in, first out
        self.connections: set[Connection] = set()  # idle and busy ones
        self.dialing = 0  # connections being opened
        self.limits = limits
        self._sweep_later = sweep_later

    def take(self, now: float) -> "Connection | None":
        """Removes and returns an idle connection that is still usable; None if there is none."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            connection.is_idle = False
            if connection.is_usable(now):
                return connection
            connection.abort()
        return None

    def keep(self, connection: "Connection", idle_seconds: float | None) -> None:
        """Adds a connection whose response is complete.

        `idle_seconds` is how long the upstream keeps it open, None if it did not say.
        """
        limits = self.limits
        if connection.is_tls and not connection.is_reused and self.tls is not None:
            self.tls.remember(connection.transport.get_extra_info("ssl_object"))
        limit = limits.idle_seconds
        if idle_seconds is not None and idle_seconds < limit:
            limit = idle_seconds
        if limit <= 0 or limits.max_idle <= 0:
            connection.transport.abort()
            return
        if len(self.idle) >= limits.max_idle:
            self.idle[0].abort()
        connection.idle_since = connection.loop.time()
        connection.idle_limit = limit
        connection.is_reused = True
        connection.is_idle = True
        self.idle.append(connection)
        self._sweep_later()

    def remove_idle(self, connection: "Connection") -> None:
        """Removes a connection from the idle ones."""
        connection.is_idle = False
        self.idle.remove(connection)

    def forget(self, connection: "Connection") -> None:
        """Removes a connection that was lost."""
        self.connections.discard(connection)
        if connection.is_idle:
            self.remove_idle(connection)

    def sweep(self, now: float) -> None:
        """Closes the connections that were idle for too long."""
        for connection in [c for c in self.idle if not c.is_usable(now)]:
            connection.abort()

    def is_unused(self) -> bool:
        """Whether no connection is open or being opened."""
        return not (self.connections or self.dialing)
