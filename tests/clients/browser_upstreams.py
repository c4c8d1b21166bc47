"""Small real servers for the clients' tests: an upstream, an HTTP proxy and a SOCKS5 proxy."""

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable


@dataclasses.dataclass
class Asked:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [v for n, v in self.headers if n.lower() == name]
        assert len(found) < 2, f"{name} came twice"
        return found[0] if found else None


Handler = Callable[[Asked, asyncio.StreamWriter], Awaitable[bool | None]]


def answer(
    writer: asyncio.StreamWriter,
    body: bytes = b"ok",
    status: str = "200 OK",
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


async def read_asked(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]
    lower = {n.lower(): v for n, v in headers}
    body = b""
    if "content-length" in lower:
        body = await reader.readexactly(int(lower["content-length"]))
    elif "chunked" in lower.get("transfer-encoding", ""):
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    return Asked(method, target, headers, body)


class Upstream:
    """Counts its connections and when each ended; `handler` returns True to hang up."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.open = 0
        self.asked: list[Asked] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Upstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, failed: object, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        if failed is None:
            await self.all_gone(5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while (asked := await read_asked(reader)) is not None:
                self.asked.append(asked)
                if await self.handler(asked, writer):
                    break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def all_gone(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while self.open:
                await asyncio.sleep(0.005)


async def until_peer_left(writer: asyncio.StreamWriter) -> None:
    """Writes until the other side is gone; for answers that never end."""
    while not writer.transport.is_closing():
        writer.write(b"1\r\n.\r\n")
        await writer.drain()
        await asyncio.sleep(0.002)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    far_reader, far_writer = await asyncio.open_connection(host, port)
    await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))


@dataclasses.dataclass
class Tunnel:
    """One way taken through a proxy: who, where to."""

    user: str
    target: str


@contextlib.asynccontextmanager
async def http_proxy() -> AsyncIterator[tuple[int, list[Tunnel]]]:
    """CONNECT and absolute-form requests; adds X-Proxy-User to the latter."""
    seen: list[Tunnel] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (asked := await read_asked(reader)) is not None:
            given = asked.header("proxy-authorization") or ""
            user = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")[0]
            seen.append(Tunnel(user, asked.target))
            if asked.method == "CONNECT":
                host, _, port = asked.target.rpartition(":")
                writer.write(b"HTTP/1.1 200 OK\r\nX-Of-The-Proxy: 1\r\n\r\n")
                await _join(reader, writer, host, int(port))
                return
            _, _, rest = asked.target.partition("://")
            address, _, path = rest.partition("/")
            host, _, port = address.partition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            kept = [f"{n}: {v}" for n, v in asked.headers if not n.lower().startswith("proxy-")] + [
                f"X-Proxy-User: {user}",
                "Connection: close",
            ]
            head = "\r\n".join([f"{asked.method} /{path} HTTP/1.1", *kept])
            far_writer.write(head.encode() + b"\r\n\r\n" + asked.body)
            head_back = await far_reader.readuntil(b"\r\n\r\n")
            size = int(head_back.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            writer.write(head_back + await far_reader.readexactly(size))
            far_writer.close()
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


@contextlib.asynccontextmanager
async def socks5_proxy() -> AsyncIterator[tuple[int, list[Tunnel]]]:
    """SOCKS5 with user and password; every name is taken for this machine."""
    seen: list[Tunnel] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        user = ""
        if 2 in methods:
            writer.write(b"\x05\x02")
            _, size = await reader.readexactly(2)
            user = (await reader.readexactly(size)).decode()
            await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\x01\x00")
        else:
            writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(str(n) for n in await reader.readexactly(4))
        port = int.from_bytes(await reader.readexactly(2), "big")
        seen.append(Tunnel(user, f"{host}:{port}"))
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await _join(reader, writer, "127.0.0.1", port)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def silent_server() -> asyncio.Server:
    """Accepts and never says a word: a TLS handshake with it does not end."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()

    return await asyncio.start_server(silent, "127.0.0.1", 0)
