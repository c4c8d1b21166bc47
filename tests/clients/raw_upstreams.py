"""Upstreams, proxies and certificates for the transport's tests: small, real, on loopback."""

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from app.clients.transport import Transport

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPS = ["uvloop", "asyncio"]


def run(main: Callable[[], Awaitable[Any]], loop: str = "uvloop") -> Any:
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())  # type: ignore[arg-type]


def open_sockets() -> int:
    """Of this whole process, whoever holds them."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    return count


def open_count(transport: Transport) -> int:
    """Connections the transport holds or is opening, to whichever upstream."""
    return sum(len(origin.connections) + origin.dialing for origin in transport.origins.values())


def idle_count(transport: Transport) -> int:
    """Connections that wait in the transport's pools."""
    return sum(len(origin.idle) for origin in transport.origins.values())


class Asked:
    """One request as it stood on the wire."""

    def __init__(self, head: bytes, body: bytes = b"") -> None:
        self.head, self.body = head, body
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers = [(n.lower(), v.strip()) for n, _, v in (x.partition(":") for x in lines)]

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n == name), None)


async def read_head(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Asked(head[:-4])


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    asked = await read_head(reader)
    if asked is None:
        return None
    if length := asked.header("content-length"):
        asked.body = await reader.readexactly(int(length))
    elif asked.header("transfer-encoding") == "chunked":
        asked.body = await read_chunks(reader)
    return asked


def answer(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Server:
    """A TCP server that counts its connections and ends them all at the end."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self._handler, self._tls = handler, tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://{'localhost' if self._tls else '127.0.0.1'}:{self.port}"
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except RuntimeError as error:  # uvloop's word for a client that has left
            if "closed" not in str(error):
                raise
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    _closing = False

    async def __aexit__(self, *error: object) -> None:
        self._closing = True
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await asyncio.sleep(0)


def serving(reply: Callable[[Asked], bytes | None], tls: ssl.SSLContext | None = None) -> Server:
    """Answers each request with `reply(asked)`; None closes the connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await read_request(reader):
            data = reply(asked)
            if data is None:
                return
            writer.write(data)
            await writer.drain()

    return Server(handler, tls)


def sending(data: bytes, *, then: str = "close", pieces: int | None = None) -> Server:
    """Sends `data` to whoever asks, `pieces` bytes at a time, then closes, resets or hangs."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await read_request(reader) is None:
            return
        step = pieces or max(1, len(data))
        for i in range(0, len(data), step):
            writer.write(data[i : i + step])
            if pieces:
                await asyncio.sleep(0)
        await writer.drain()
        if then == "hang":
            await reader.read()
        elif then == "eof":
            writer.write_eof()
            await reader.read()
        elif then == "close":
            writer.close()
            await writer.wait_closed()

    return Server(handler)


# --- proxies --------------------------------------------------------------------------------------


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    far_reader, far_writer = await asyncio.open_connection(host, port)
    try:
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    finally:
        far_writer.transport.abort()


class HttpProxy(Server):
    """CONNECT and absolute-form. `credentials` "user:password" are asked for when given.

    `says` is sent right behind the answer to CONNECT, by a proxy that does not keep to the rules.
    """

    def __init__(
        self, credentials: str = "", tls: ssl.SSLContext | None = None, says: bytes = b""
    ) -> None:
        super().__init__(self._serve, tls)
        self._credentials, self._says = credentials, says
        self.asked: list[Asked] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await read_request(reader):
            self.asked.append(asked)
            wanted = "Basic " + base64.b64encode(self._credentials.encode()).decode()
            if self._credentials and asked.header("proxy-authorization") != wanted:
                writer.write(answer(b"no", "407 Proxy Authentication Required"))
                continue
            if asked.method == "CONNECT":
                host, _, port = asked.target.rpartition(":")
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n" + self._says)
                await _join(reader, writer, host.strip("[]"), int(port))
                return
            host, _, path = asked.target.removeprefix("http://").partition("/")
            assert asked.header("host") == host
            writer.write(answer(f"{host} /{path} ".encode() + asked.body))


class SocksProxy(Server):
    def __init__(self, user: str = "", password: str = "", refuse: int = 0) -> None:
        super().__init__(self._serve)
        self._user, self._password, self._refuse = user, password, refuse
        self.asked: list[tuple[str, int]] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        if self._user:
            if 2 not in methods:
                writer.write(b"\x05\xff")
                await writer.drain()
                return
            writer.write(b"\x05\x02")
            _, length = await reader.readexactly(2)
            user = (await reader.readexactly(length)).decode()
            password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            good = (user, password) == (self._user, self._password)
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                await writer.drain()
                return
        else:
            writer.write(b"\x05\x00")
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append((host, port))
        # The bound address comes as a name here, so that clients must read its length.
        writer.write(bytes((5, self._refuse, 0, 3, 4)) + b"here" + b"\0\0")
        await writer.drain()
        if not self._refuse:
            await _join(reader, writer, host, port)


# --- certificates ---------------------------------------------------------------------------------


class Authority:
    """A certificate authority of its own, and servers' contexts signed by it."""

    def __init__(self, folder: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self._x509, self._hashes, self._ec, self._ser = x509, hashes, ec, serialization
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Authority")])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, True, True, False, False), True
            )
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: Any, public_key: Any, days: int = 2) -> Any:
        now = datetime.datetime.now(datetime.UTC)
        identifier = self._x509.SubjectKeyIdentifier.from_public_key(public_key)
        return (
            self._x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(self._x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=5))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(identifier, critical=False)
        )

    def certificate(self, name: str, days: int = 2) -> tuple[Path, Path]:
        """(certificate, key) files for one host name; `days` below 0: expired."""
        key = self._ec.generate_private_key(self._ec.SECP256R1())
        subject = self._x509.Name([self._x509.NameAttribute(self._x509.NameOID.COMMON_NAME, name)])
        authority_id = self._x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        certificate = (
            self._builder(subject, key.public_key(), days)
            .add_extension(
                self._x509.SubjectAlternativeName([self._x509.DNSName(name)]), critical=False
            )
            .add_extension(authority_id, critical=False)
            .sign(self._key, self._hashes.SHA256())
        )
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(self._ser.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                self._ser.Encoding.PEM,
                self._ser.PrivateFormat.PKCS8,
                self._ser.NoEncryption(),
            )
        )
        return cert_file, key_file

    def server(self, name: str = "localhost", days: int = 2) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate(name, days))
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context
