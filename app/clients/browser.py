"""The client for websites that check for a browser's TLS and HTTP/2, by curl_cffi's lower level.

curl_cffi's own session cannot stream here: it buffers without limit and does not stop a transfer
that is cancelled. With `AsyncCurl` the body pauses above 64 KiB, and `remove_handle` drops the
connection at once, before the headers and in the body alike. No cookie engine, no redirects, no
proxies from the environment: only what the request holds is sent, in a browser's shape.

A body, streamed or not, arrives decoded: the browser's own Accept-Encoding is always sent.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from curl_cffi import AsyncCurl, Curl, CurlECode, CurlError, CurlOpt
from curl_cffi.const import CurlMOpt
from curl_cffi.curl import (
    CURL_READFUNC_ABORT,
    CURL_READFUNC_PAUSE,
    CURL_WRITEFUNC_PAUSE,
    CURLPAUSE_CONT,
    CURLPAUSE_RECV,
)
from curl_cffi.requests.impersonate import DEFAULT_CHROME

from app.clients.address import with_remote_dns
from app.clients.errors import bad_path, connect_timeout, unreachable
from app.clients.header_check import header_lines
from app.clients.shortage import shortage
from app.wire.errors import upstream_cut
from app.wire.upstream import Headers, UpstreamRequest

PAUSE_ABOVE = 64 * 1024
MAX_IDLE_CONNECTIONS = 64  # per proxy
MAX_PROXIES = 32  # pools kept; idle ones go first

# curl's profiles imitate the loading of a page. The gateway only ever does what a page's script
# does, and a browser marks that differently.
_FETCH = (
    ("accept", "*/*"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
    ("priority", "u=1, i"),
    ("upgrade-insecure-requests", ""),
    ("sec-fetch-user", ""),
    ("expect", ""),
    ("content-type", ""),  # curl would add a form's
)
# Set by curl, from the profile and the body.
_NOT_SENT = frozenset(("host", "accept-encoding", "connection", "transfer-encoding", "expect"))
_REQUEST_FAULTS = frozenset(
    (CurlECode.URL_MALFORMAT, CurlECode.UNSUPPORTED_PROTOCOL, CurlECode.BAD_FUNCTION_ARGUMENT)
)


class BrowserResponse:
    """One transfer, from its start to its last byte. Owns the curl easy handle and nothing else."""

    def __init__(
        self, pool: "_Pool", request: UpstreamRequest, proxy: str, connect_seconds: float
    ) -> None:
        self.status = 0
        self.headers: Headers = []
        self._pool = pool
        self._loop = pool.curl.loop
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._answered = False  # the headers of the final status are there
        self._ended = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._upload_piece = memoryview(b"")
        self._upload_ended = False
        self._upload_wanted: asyncio.Future[None] | None = None
        self._curl: Curl | None = Curl()
        try:
            self._set_up(self._curl, request, proxy, connect_seconds)
            self._transfer = pool.curl.add_handle(self._curl)
        except BaseException:
            self._curl.close()
            raise
        pool.open.add(self)
        self._transfer.add_done_callback(self._on_end)
        body = request.body
        if body is not None and not isinstance(body, bytes):
            self._upload = self._loop.create_task(self._feed(body), name="browser upload")

    def _set_up(
        self, curl: Curl, request: UpstreamRequest, proxy: str, connect_seconds: float
    ) -> None:
        curl.impersonate(DEFAULT_CHROME)
        curl.setopt(CurlOpt.URL, request.url.encode())
        curl.setopt(CurlOpt.PROTOCOLS_STR, b"http,https")
        curl.setopt(CurlOpt.PATH_AS_IS, 1)
        curl.setopt(CurlOpt.ACCEPT_ENCODING, b"gzip, deflate, br, zstd")
        curl.setopt(CurlOpt.CONNECTTIMEOUT_MS, max(1, int(connect_seconds * 1000)))
        curl.setopt(CurlOpt.TCP_KEEPALIVE, 1)
        # An empty text, not an absent option: that one would mean the environment's proxies.
        curl.setopt(CurlOpt.PROXY, proxy.encode())
        curl.setopt(CurlOpt.NOPROXY, b"")
        curl.setopt(CurlOpt.SUPPRESS_CONNECT_HEADERS, 1)
        curl.setopt(CurlOpt.HEADERFUNCTION, self._on_header)
        curl.setopt(CurlOpt.WRITEFUNCTION, self._on_body)
        self._set_up_body(curl, request)
        given = {name.lower() for name, _ in request.headers}
        headers = [(name, value) for name, value in _FETCH if name not in given]
        headers += [pair for pair in request.headers if pair[0].lower() not in _NOT_SENT]
        if isinstance(request.body, bytes):
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
        curl.setopt(CurlOpt.HTTPHEADER, header_lines(headers))

    def _set_up_body(self, curl: Curl, request: UpstreamRequest) -> None:
        body, method = request.body, request.method.upper()
        if body is None and method == "HEAD":
            curl.setopt(CurlOpt.NOBODY, 1)
            return
        if body is None and method not in ("POST", "PUT", "PATCH"):
            curl.setopt(CurlOpt.HTTPGET, 1)
        elif body is None or isinstance(body, bytes):
            curl.setopt(CurlOpt.POST, 1)
            curl.setopt(CurlOpt.POSTFIELDSIZE_LARGE, len(body or b""))
            curl.setopt(CurlOpt.POSTFIELDS, body or b"")
        else:
            curl.setopt(CurlOpt.POST, 1)
            curl.setopt(CurlOpt.READFUNCTION, self._on_upload)
            # A kept connection may turn out dead, and a body that is read once cannot be resent.
            curl.setopt(CurlOpt.FRESH_CONNECT, 1)
            size = next((v for n, v in request.headers if n.lower() == "content-length"), "")
            if size.isdecimal():
                curl.setopt(CurlOpt.POSTFIELDSIZE_LARGE, int(size))
        curl.setopt(CurlOpt.CUSTOMREQUEST, method.encode())

    # curl's callbacks: on the loop's thread, never from another one, and they must not raise

    def _on_header(self, line: bytes) -> int:
        if self._answered:  # a trailer
            return len(line)
        if line[:5] == b"HTTP/":
            self.status = int(line.split(None, 2)[1])
            self.headers = []
        elif line in (b"\r\n", b"\n"):
            if self.status >= 200:
                self._answered = True
                self._wake()
        else:
            name, _, value = line.partition(b":")
            self.headers.append((name.decode("latin-1").lower(), value.strip().decode("latin-1")))
        return len(line)

    def _on_body(self, data: bytes) -> int:
        if self._buffered >= PAUSE_ABOVE:
            self._paused = True
            return CURL_WRITEFUNC_PAUSE
        self._pieces.append(data)
        self._buffered += len(data)
        self._wake()
        return len(data)

    def _on_upload(self, max_bytes: int) -> bytes | int:
        if self._upload_piece:
            piece = bytes(self._upload_piece[:max_bytes])
            self._upload_piece = self._upload_piece[max_bytes:]
            return piece
        if self._error is not None:
            return CURL_READFUNC_ABORT
        if self._upload_ended:
            return b""
        if self._upload_wanted is not None and not self._upload_wanted.done():
            self._upload_wanted.set_result(None)
        return CURL_READFUNC_PAUSE

    def _on_end(self, transfer: "asyncio.Future[None]") -> None:
        self._ended = True
        self._pool.open.discard(self)
        if not transfer.cancelled() and (error := transfer.exception()) is not None:
            self._error = self._error or error
        if self._upload_wanted is not None and not self._upload_wanted.done():
            self._upload_wanted.set_result(None)
        self._wake()

    # called by the reader of the response

    async def start(self) -> None:
        """Waits for the response headers. Raises GatewayError; see `Client.open`."""
        while not self._answered:
            if self._ended:
                raise _as_gateway_error(self._error) if self._error else upstream_cut()
            await self._wait()
        self._remove_encoding_headers()

    async def read(self) -> bytes:
        """Returns the next bytes, decompressed, b"" at the end. Raises `upstream_cut`."""
        while True:
            if self._pieces:
                piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._buffered = 0
                return piece
            if self._ended:
                if self._error is not None:
                    raise upstream_cut() from None
                return b""
            if self._paused and self._curl is not None:
                self._paused = False
                try:
                    self._curl.pause(CURLPAUSE_CONT)  # may deliver before it returns
                except CurlError as error:
                    raise upstream_cut() from error
                continue
            await self._wait()

    async def close(self) -> None:
        """Ends the transfer if it still runs, and the upload. Idempotent."""
        curl, self._curl = self._curl, None
        if curl is None:
            return
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()
        self._drop(curl)
        if upload is not None:
            await asyncio.wait([upload])

    def cut(self) -> None:
        """Ends the transfer because the client is closing; a reader gets `upstream_cut`."""
        self._error = self._error or upstream_cut("The gateway is closing its connections")
        curl, self._curl = self._curl, None
        if self._upload is not None:
            self._upload.cancel()
        if curl is not None:
            self._drop(curl)

    def _drop(self, curl: Curl) -> None:
        self._pool.open.discard(self)
        if not self._transfer.done():
            self._error = self._error or upstream_cut()
            self._pool.curl.remove_handle(curl)  # cancels the transfer, which wakes a reader
        self._pieces.clear()
        self._buffered = 0
        curl.close()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _feed(self, body: AsyncIterator[bytes]) -> None:
        """Gives the streamed body to curl, one piece at a time, when curl asks for it."""
        try:
            async for piece in body:
                if not piece:
                    continue
                self._upload_piece = memoryview(piece)
                while self._upload_piece and not self._ended:
                    await self._wait_until_wanted()
            self._upload_ended = True
        except Exception as error:
            self._error = error
        self._resume_upload()

    async def _wait_until_wanted(self) -> None:
        self._upload_wanted = self._loop.create_future()
        self._resume_upload()
        await self._upload_wanted

    def _resume_upload(self) -> None:
        if self._curl is not None and not self._ended:
            with suppress(CurlError):  # the transfer itself then ends with the error
                self._curl.pause(CURLPAUSE_RECV if self._paused else CURLPAUSE_CONT)

    def _remove_encoding_headers(self) -> None:
        """Removes the headers of the compressed body: curl decompresses it."""
        if any(name == "content-encoding" for name, _ in self.headers):
            self.headers = [
                pair
                for pair in self.headers
                if pair[0] not in ("content-encoding", "content-length")
            ]


class _Pool:
    """The connections of one proxy address, or of none.

    curl would give a tunnel opened by one user of a proxy to another user of it.
    """

    def __init__(self) -> None:
        self.curl = AsyncCurl()
        self.curl.setopt(CurlMOpt.MAXCONNECTS, MAX_IDLE_CONNECTIONS)  # type: ignore[no-untyped-call]
        self.open: set[BrowserResponse] = set()

    async def close(self) -> None:
        """Ends all transfers and closes the connections."""
        for response in list(self.open):
            response.cut()
        await self.curl.close()  # type: ignore[no-untyped-call]


class BrowserClient:
    """The client for `via="browser"`: one pool of connections per proxy."""

    def __init__(self, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._pools: dict[str, _Pool] = {}

    async def open(self, request: UpstreamRequest) -> BrowserResponse:
        """Sends the request; returns when the response headers are there. See `Client.open`."""
        proxy = with_remote_dns(request.proxy or "")
        pool = self._pools.get(proxy)
        if pool is None:
            await self._make_room()
            pool = self._pools.setdefault(proxy, _Pool())
        try:
            response = BrowserResponse(pool, request, proxy, self._connect_seconds)
        except CurlError as error:
            raise _as_gateway_error(error) from None
        except UnicodeEncodeError:
            raise bad_path() from None
        try:
            await response.start()
        except BaseException:
            await response.close()
            raise
        return response

    async def _make_room(self) -> None:
        while len(self._pools) >= MAX_PROXIES:
            idle = next((proxy for proxy, pool in self._pools.items() if not pool.open), None)
            if idle is None:
                return
            await self._pools.pop(idle).close()

    async def close(self) -> None:
        """Ends all transfers and closes all connections."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.close()


def _as_gateway_error(error: BaseException) -> BaseException:
    """The failure without curl's text, which may hold an address with a proxy password.

    What is no CurlError, a failure of the request's body, is returned as it is.
    """
    if not isinstance(error, CurlError):
        return error
    code = error.code
    if code in _REQUEST_FAULTS:
        return bad_path()
    if code == CurlECode.OPERATION_TIMEDOUT:
        return connect_timeout()
    if ours := shortage(MemoryError() if code == CurlECode.OUT_OF_MEMORY else error):
        return ours
    name = CurlECode(code).name if code in set(CurlECode) else str(int(code))
    return unreachable(name)
