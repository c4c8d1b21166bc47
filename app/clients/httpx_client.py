"""The client for plain HTTPS APIs by httpx, with `transport: httpx` in the config.

It uses httpx's transport without an AsyncClient, which would keep a cookie jar and send one
caller's Set-Cookie with the next request, follow redirects and add credentials.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx

from app.clients.errors import bad_path, connect_timeout, unreachable
from app.clients.shortage import shortage
from app.wire.errors import upstream_cut
from app.wire.upstream import Headers, UpstreamRequest

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=30)


class ApiResponse:
    """A response of httpx; see `app.clients.Response`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in response.headers.raw
        ]
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        self._stream = stream
        self._pieces: AsyncIterator[bytes] = stream.__aiter__()

    async def read(self) -> bytes:
        """Returns the next bytes, b"" at the end. Raises `upstream_cut`."""
        try:
            return await anext(self._pieces, b"")
        except httpx.TransportError as error:
            raise upstream_cut() from error

    async def close(self) -> None:
        """Closes the response, also when the caller is cancelled."""
        # In a task of its own: a second cancellation in the middle would leave the socket open.
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        with suppress(httpx.TransportError, RuntimeError):
            await self._stream.aclose()


class ApiClient:
    """The client for `via="api"` over httpx: one connection pool per proxy."""

    def __init__(self, connect_seconds: float) -> None:
        self._timeout = {"connect": connect_seconds, "read": None, "write": 60.0, "pool": None}
        self._transports: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def open(self, request: UpstreamRequest) -> ApiResponse:
        """Sends the request; returns when the response headers are there. See `Client.open`."""
        transport = self._transports.get(request.proxy)
        if transport is None:
            transport = httpx.AsyncHTTPTransport(
                limits=_LIMITS, proxy=httpx.Proxy(request.proxy) if request.proxy else None
            )
            self._transports[request.proxy] = transport
        try:
            outgoing = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                extensions={"timeout": self._timeout},
            )
            response = await transport.handle_async_request(outgoing)
        except httpx.ConnectTimeout as error:
            raise connect_timeout() from error
        except httpx.TransportError as error:
            # Not the library's text: it may hold an address with a proxy password.
            raise shortage(error) or unreachable(type(error).__name__) from error
        except httpx.InvalidURL as error:
            raise bad_path() from error
        return ApiResponse(response)

    async def close(self) -> None:
        """Closes all connections."""
        for transport in self._transports.values():
            await transport.aclose()
        self._transports.clear()
