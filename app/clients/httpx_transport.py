"""httpx's API over our own transport, for ordinary calls that want a Request and a Response.

Give it to `httpx.AsyncClient(transport=HttpxTransport(...))`. httpx's timeouts and exceptions mean
here what they mean there. The hot path does not come this way: it uses Transport.open() itself.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx

from app.clients.transport import Timeouts, Transport, TransportResponse
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamRequest

# 400s are ours: the request could not be said in HTTP/1.1.
_ERRORS: dict[str | None, type[httpx.TransportError]] = {
    "upstream_unreachable": httpx.ConnectError,
    "upstream_timeout": httpx.ConnectTimeout,
    "upstream_stalled": httpx.WriteTimeout,
    "upstream_busy": httpx.PoolTimeout,
    "upstream_cut": httpx.ReadError,
    "upstream_bad_response": httpx.RemoteProtocolError,
    "bad_proxy": httpx.ProxyError,
}


class HttpxTransport(httpx.AsyncBaseTransport):
    """Closes `transport` with itself; share one by giving each its own HttpxTransport and closing
    only the last."""

    def __init__(self, transport: Transport, proxy: str | None = None) -> None:
        self._transport = transport
        self._proxy = proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        seconds = request.extensions.get("timeout", {})
        url = request.url
        stream = request.stream
        if isinstance(stream, httpx.ByteStream):
            body: bytes | AsyncIterator[bytes] = b"".join(stream)
        else:
            assert isinstance(stream, httpx.AsyncByteStream)
            body = stream.__aiter__()
        outgoing = UpstreamRequest(
            method=request.method,
            url=f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}",
            headers=[(n.decode("ascii"), v.decode("latin-1")) for n, v in request.headers.raw],
            body=body,
            proxy=self._proxy,
        )
        read_seconds = seconds.get("read")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:

                def on_sent() -> None:
                    if read_seconds is not None:
                        limit.reschedule(loop.time() + read_seconds)

                response = await self._transport.open(
                    outgoing,
                    Timeouts(
                        connect=seconds.get("connect"),
                        write=seconds.get("write"),
                        pool=seconds.get("pool"),
                    ),
                    on_sent,
                )
        except TimeoutError as error:
            raise httpx.ReadTimeout("The upstream did not answer in time.") from error
        except GatewayError as error:
            raise _as_httpx(error) from error
        return httpx.Response(
            response.status,
            headers=[(n.encode("ascii"), v.encode("latin-1")) for n, v in response.headers],
            stream=_Body(response, read_seconds),
            extensions={
                "http_version": response.http_version.encode("ascii"),
                "reason_phrase": response.reason.encode("latin-1"),
            },
        )

    async def aclose(self) -> None:
        await self._transport.close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: TransportResponse, read_seconds: float | None) -> None:
        self._response = response
        self._read_seconds = read_seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._read_seconds):
                    data = await self._response.read()
            except TimeoutError as error:
                raise httpx.ReadTimeout("The upstream fell silent.") from error
            except GatewayError as error:
                raise _as_httpx(error) from error
            if not data:
                return
            yield data

    async def aclose(self) -> None:
        await self._response.close()


def _as_httpx(error: GatewayError) -> httpx.TransportError:
    return _ERRORS.get(error.code, httpx.LocalProtocolError)(error.message)
