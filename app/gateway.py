"""One worker's engine put together: clients, key pool, exchange, forwarder, log."""

import asyncio
from typing import Any

from msgspec import Struct

from app.clients import Clients
from app.exchange import Exchange
from app.forward import Forwarder
from app.key_pool import KeyPool
from app.logs import CallLog
from app.shared_state import SharedState
from app.wire.errors import GatewayError
from app.wire.settings import Config


class Listing(Struct):
    """What one provider offers, as last heard: its models, or why there are none."""

    lock: asyncio.Lock
    until: float = 0.0  # monotonic
    models: list[dict[str, Any]] | None = None
    error: GatewayError | None = None


class Gateway:
    """Made on the worker's event loop, closed after its last request."""

    def __init__(self, config: Config, state: SharedState) -> None:
        self.config = config
        self.state = state
        self.clients = Clients(config.timeouts.connect)
        self.pool = KeyPool(config, state)
        self.log = CallLog(config.log_format)
        self.exchange = Exchange(config, self.clients, self.pool, self.log)
        self.forwarder = Forwarder(config, self.clients, self.pool, self.log)
        self.ready = True
        self.model_lists: dict[str, Listing] = {}  # by the provider's name

    def drain(self) -> None:
        """From now on not ready for new calls; those that run may end by themselves."""
        self.ready = False

    def end_calls(self) -> None:
        """Open calls are told that the gateway goes."""
        self.exchange.end_all()
        self.forwarder.end_all()

    async def close(self) -> None:
        await self.clients.close()
        self.log.flush()
