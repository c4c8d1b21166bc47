"""What the simulated websocket APIs share: a session that speaks JSON, broken as its fault asks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
from sanic import Blueprint, Request
from sanic.exceptions import WebsocketClosed
from sanic.server.websockets.impl import WebsocketImplProtocol

from app.simulator.delivery import hang, reset_connection
from app.simulator.faults import Fault
from app.simulator.ledger import record_of

JSON = dict[str, Any]
Handler = Callable[..., Awaitable[None]]
encode = msgspec.json.encode
decode = msgspec.json.Decoder(dict[str, Any]).decode


def websocket(
    blueprint: Blueprint, path: str, subprotocol: str = ""
) -> Callable[[Handler], Handler]:
    """Adds a websocket's route. Its subprotocol is chosen where it is offered.

    Sanic's own decorator would refuse a handshake without one; the real APIs do not insist.
    """

    def register(handler: Handler) -> Handler:
        async def handle(request: Request, **params: str) -> None:
            offered = request.headers.get("sec-websocket-protocol", "")
            names = [name.strip() for name in offered.split(",")]
            chosen = [subprotocol] if subprotocol and subprotocol in names else None
            protocol: Any = request.transport.get_protocol()
            ws = await protocol.websocket_handshake(request, chosen)
            with suppress(WebsocketClosed):  # the client was faster
                await handler(request, ws, **params)
                await ws.close()

        handle.is_websocket = True  # type: ignore[attr-defined]
        name = handler.__name__ + ("_" if "//" in path else "")
        blueprint.add_route(handle, path, methods=["GET"], name=name)
        return handler

    return register


class LiveSession:
    """One websocket: its messages in and out. `binary` sends JSON in binary frames."""

    def __init__(
        self, request: Request, ws: WebsocketImplProtocol, fault: Fault, *, binary: bool = False
    ) -> None:
        self._request, self._ws, self._binary = request, ws, binary
        self.fault, self.record = fault, record_of(request)
        self.record.status, self.record.is_stream = 101, True

    async def messages(self) -> AsyncIterator[JSON]:
        """The client's messages until it closes. One that is no JSON object ends the session."""
        while (data := await self._receive()) is not None:
            try:
                message = decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                await self.close(1007, "Request contains an invalid JSON payload.")
                return
            self.record.body = encode(message)  # what /_sim/last shows of it is its last message
            yield message

    async def _receive(self) -> str | bytes | None:
        """The next message, None once the client has closed."""
        try:
            data: str | bytes | None = await self._ws.recv()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None  # so Sanic tells a close frame
        return data

    async def say(self, message: JSON) -> None:
        """Sends a message, or does what the fault asks in its place."""
        fault, record = self.fault, self.record
        if record.events == fault.hang_after:
            await hang()
        if record.events == fault.cut_after:
            await reset_connection(self._request)
        if record.events == fault.close_after:
            await self.close(1011, "The simulator closes it.")
            return
        data = encode(message)
        await self._ws.send(data if self._binary else data.decode())
        record.events += 1
        record.sent_bytes += len(data)
        if fault.drip_ms >= 0:
            await asyncio.sleep(fault.drip_ms / 1000)

    async def close(self, code: int, reason: str) -> None:
        """Closes the websocket."""
        await self._ws.close(code, reason)
