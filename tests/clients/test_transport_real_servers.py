"""Against servers and proxies that others wrote: what we read is what curl reads.

Each server is started from here, plain and with TLS, on free ports of loopback. One that is not
installed is skipped: nginx-light, haproxy, tinyproxy, squid, dante-server, nodejs, golang and curl
come from Debian, uvicorn, hypercorn and aiohttp from PyPI.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.clients import read_whole
from app.clients.tls import tls_context
from app.clients.transport import Transport
from app.wire.upstream import UpstreamRequest
from tests.clients.raw_upstreams import (
    Authority,
    answer,
    idle_count,
    open_count,
    open_sockets,
    run,
    serving,
)
from tests.server.running import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NODE = """
const fs = require('fs');
const [plain, tls, cert, key] = process.argv.slice(2);
function handle(request, response) {
  const pieces = [];
  request.on('data', piece => pieces.push(piece));
  request.on('end', async () => {
    switch (request.url) {
      case '/small': response.setHeader('Content-Length', 5); return response.end('hello');
      case '/big': return response.end(Buffer.alloc(3000000, 'big '));
      case '/none': response.statusCode = 204; return response.end();
      case '/same': response.statusCode = 304; response.setHeader('ETag', '"x"');
        return response.end();
      case '/close': response.setHeader('Connection', 'close'); return response.end('bye');
      case '/hints': response.writeEarlyHints({link: '</a>; rel=preload'});
        return response.end('hinted');
      case '/trailers': response.setHeader('Trailer', 'X-T'); response.write('a');
        response.addTrailers({'X-T': 'y'}); return response.end('b');
      case '/chunks':
        for (let i = 0; i < 50; i++) {
          response.write('piece ' + i + '\\n');
          await new Promise(setImmediate);
        }
        return response.end();
      case '/echo': return response.end(Buffer.concat(pieces));
      default: response.statusCode = 404; response.end('nothing here');
    }
  });
}
require('http').createServer(handle).listen(+plain, '127.0.0.1');
require('https').createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)}, handle)
  .listen(+tls, '127.0.0.1');
"""

GO = """
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func handle(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/small":
		io.WriteString(w, "hello")
	case "/big":
		w.Write(bytes.Repeat([]byte("big "), 750000))
	case "/none":
		w.WriteHeader(204)
	case "/same":
		w.Header().Set("ETag", "\\"x\\"")
		w.WriteHeader(304)
	case "/close":
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye")
	case "/hints":
		w.Header().Set("Link", "</a>; rel=preload")
		io.WriteString(w, "hinted")
	case "/trailers":
		w.Header().Set("Trailer", "X-T")
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		io.WriteString(w, "b")
		w.Header().Set("X-T", "y")
	case "/chunks":
		for i := 0; i < 50; i++ {
			fmt.Fprintf(w, "piece %d\\n", i)
			w.(http.Flusher).Flush()
		}
	case "/echo":
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	default:
		http.Error(w, "nothing here", 404)
	}
}

func main() {
	go http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handle))
	tls := "127.0.0.1:" + os.Args[2]
	http.ListenAndServeTLS(tls, os.Args[3], os.Args[4], http.HandlerFunc(handle))
}
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    status, pieces, headers = 200, [b""], []
    match scope["path"]:
        case "/small": pieces, headers = [b"hello"], [(b"content-length", b"5")]
        case "/big": pieces = [b"big " * 750000]
        case "/none": status = 204
        case "/same": status, headers = 304, [(b"etag", b'"x"')]
        case "/close": pieces, headers = [b"bye"], [(b"connection", b"close")]
        case "/chunks": pieces = [b"piece %d\\n" % i for i in range(50)]
        case "/echo": pieces = [body]
        case _: status, pieces = 404, [b"nothing here"]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
"""

AIOHTTP = """
import asyncio, ssl, sys
from aiohttp import web

async def handle(request):
    body = await request.read()
    match request.path:
        case "/small": return web.Response(text="hello")
        case "/big": return web.Response(body=b"big " * 750000)
        case "/none": return web.Response(status=204)
        case "/same": return web.Response(status=304, headers={"ETag": '"x"'})
        case "/close": return web.Response(text="bye", headers={"Connection": "close"})
        case "/chunks":
            response = web.StreamResponse()
            await response.prepare(request)
            for i in range(50):
                await response.write(b"piece %d\\n" % i)
            await response.write_eof()
            return response
        case "/echo": return web.Response(body=body)
    return web.Response(status=404, text="nothing here")

async def main(plain, tls, cert, key):
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    await web.TCPSite(runner, "127.0.0.1", int(plain)).start()
    await web.TCPSite(runner, "127.0.0.1", int(tls), ssl_context=context).start()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err; worker_processes 1;
user root;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {cert}; ssl_certificate_key {key};
    root {folder}/www; ssi_types *;
    location /small {{ return 200 hello; }}
    location /none {{ return 204; }}
    location /close {{ keepalive_timeout 0; return 200 bye; }}
    location /chunks {{ ssi on; }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend in
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {both} alpn h2,http/1.1
  http-request return status 200 content-type text/plain string hello if {{ path /small }}
  http-request deny deny_status 403 if {{ path /denied }}
  default_backend node
backend node
  server node 127.0.0.1:{behind}
"""

PATHS = ["/small", "/big", "/none", "/same", "/close", "/hints", "/trailers", "/chunks", "/lost"]


def needs(*programs: str) -> None:
    for program in programs:
        if not (shutil.which(program) or importlib.util.find_spec(program)):
            pytest.skip(f"{program} is not installed")


@contextlib.contextmanager
def running(command: list[str], *ports: int, cwd: Path | None = None) -> Iterator[None]:
    log = subprocess.DEVNULL if not os.environ.get("SHOW_SERVERS") else None
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        for port in ports:
            while True:
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{command[0]} does not listen"
                time.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def node(folder: Path, plain: int, tls: int, cert: Path, key: Path) -> Iterator[None]:
    needs("node")
    (folder / "server.js").write_text(NODE)
    command = ["node", str(folder / "server.js"), str(plain), str(tls), str(cert), str(key)]
    with running(command, plain, tls):
        yield


@contextlib.contextmanager
def server(kind: str, folder: Path, plain: int, tls: int, cert: Path, key: Path) -> Iterator[None]:
    """One of them, listening on both ports."""
    ports, files = (str(plain), str(tls)), (str(cert), str(key))
    match kind:
        case "node":
            with node(folder, plain, tls, cert, key):
                yield
        case "go":
            needs("go")
            (folder / "main.go").write_text(GO)
            build = ["go", "build", "-o", "server", "main.go"]
            environment = os.environ | {"GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
            subprocess.run(build, cwd=folder, check=True, env=environment)
            with running([str(folder / "server"), *ports, *files], plain, tls):
                yield
        case "uvicorn":
            needs("uvicorn")
            (folder / "asgi_app.py").write_text(ASGI)
            base = [sys.executable, "-m", "uvicorn", "asgi_app:app", "--log-level", "warning"]
            secure = ["--ssl-certfile", files[0], "--ssl-keyfile", files[1]]
            with (
                running([*base, "--port", ports[0]], plain, cwd=folder),
                running([*base, "--port", ports[1], *secure], tls, cwd=folder),
            ):
                yield
        case "hypercorn":
            needs("hypercorn")
            (folder / "asgi_app.py").write_text(ASGI)
            command = [sys.executable, "-m", "hypercorn", "asgi_app:app"]
            command += ["--bind", f"127.0.0.1:{tls}", "--insecure-bind", f"127.0.0.1:{plain}"]
            command += ["--certfile", files[0], "--keyfile", files[1]]
            with running(command, plain, tls, cwd=folder):
                yield
        case "aiohttp":
            needs("aiohttp")
            (folder / "server.py").write_text(AIOHTTP)
            with running([sys.executable, str(folder / "server.py"), *ports, *files], plain, tls):
                yield
        case "nginx":
            needs("nginx")
            (folder / "www").mkdir()
            (folder / "www/big").write_bytes(b"big " * 750_000)
            (folder / "www/chunks").write_bytes(b"part <!--# echo var='uri' --> end" * 500)
            text = NGINX.format(folder=folder, plain=plain, tls=tls, cert=cert, key=key)
            (folder / "nginx.conf").write_text(text)
            command = ["nginx", "-e", str(folder / "err"), "-c", str(folder / "nginx.conf")]
            with running(command, plain, tls):
                yield
        case "haproxy":
            needs("haproxy")
            behind, unused = free_port(), free_port()
            (folder / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
            text = HAPROXY.format(plain=plain, tls=tls, behind=behind, both=folder / "both.pem")
            (folder / "haproxy.cfg").write_text(text)
            with (
                node(folder, behind, unused, cert, key),
                running(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], plain, tls),
            ):
                yield


def curl(url: str, folder: Path, *options: str) -> tuple[int, list[tuple[str, str]], bytes]:
    needs("curl")
    command = ["curl", "-s", "--http1.1", "-D", "head", "-o", "body", *options, url]
    (folder / "body").write_bytes(b"")
    subprocess.run(command, cwd=folder, check=True)
    # The last head: 100 and 103 stand before it.
    heads = (folder / "head").read_bytes().decode("latin-1").split("\r\n\r\n")
    final = next(head for head in heads if head and not head.split(" ")[1].startswith("1"))
    first, *lines = final.split("\r\n")
    headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
    return int(first.split(" ")[1]), headers, (folder / "body").read_bytes()


def steady(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in headers if pair[0] not in ("date", "age", "x-timer")]


SERVERS = ["nginx", "node", "go", "uvicorn", "hypercorn", "aiohttp", "haproxy"]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_real_server_says_to_us_what_it_says_to_curl(kind, tmp_path, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    cert, key = authority.certificate("localhost")
    plain, tls = free_port(), free_port()
    before = open_sockets()
    big = bytes(range(256)) * 4000

    async def upload():
        for i in range(0, len(big), 50_000):
            yield big[i : i + 50_000]

    async def main():
        transport = Transport(5, tls=tls_context())

        async def ask(url, method="GET", body=None, headers=()):
            request = UpstreamRequest(
                method=method, url=url, headers=[("Accept", "*/*"), *headers], body=body
            )
            response = await transport.open(request)
            try:
                data = b""
                while piece := await response.read():
                    data += piece
            finally:
                await response.close()
            return response.status, response.headers, data

        for origin in (f"http://localhost:{plain}", f"https://localhost:{tls}"):
            trust = ("--cacert", str(authority.file))
            for path in PATHS:
                theirs = curl(origin + path, tmp_path, *trust)
                for ours in await asyncio.gather(*[ask(origin + path) for _ in range(5)]):
                    assert ours[0] == theirs[0], (origin, path)
                    assert steady(ours[1]) == steady(theirs[1]), (origin, path)
                    assert ours[2] == theirs[2], (origin, path)
                if path in ("/small", "/big", "/lost"):
                    theirs = curl(origin + path, tmp_path, "--head", *trust)
                    ours = await ask(origin + path, "HEAD")
                    assert (ours[0], steady(ours[1])) == (theirs[0], steady(theirs[1]))
                    assert ours[2] == b""
            (tmp_path / "upload").write_bytes(big)
            data = ("--data-binary", "@upload", "-H", "Content-Type:")
            theirs = curl(origin + "/echo", tmp_path, *data, *trust)
            exact = [("Content-Length", str(len(big)))]
            for body, headers in (
                (big, []),
                (upload(), []),
                (upload(), exact),
                (big, [("Expect", "100-continue")]),
                (upload(), [("Expect", "100-continue")]),
            ):
                ours = await ask(origin + "/echo", "POST", body, headers)
                assert (ours[0], ours[2]) == (theirs[0], theirs[2]), (origin, body, headers)
            if kind != "nginx":
                assert theirs[2] == big
        await asyncio.sleep(0.05)
        assert open_count(transport) == idle_count(transport)
        kept = [origin for origin in transport.origins.values() if origin.idle]
        assert len(kept) == 2, "nothing was kept alive"
        await transport.close()

    with server(kind, tmp_path, plain, tls, cert, key):
        run(main)
    assert open_sockets() == before


TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 30
Allow 127.0.0.1
{password}
"""
SQUID = """
http_port 127.0.0.1:{port}
{password}
http_access allow all
cache deny all
pid_filename {folder}/squid.pid
access_log none
cache_log {folder}/cache.log
coredump_dir {folder}
pinger_enable off
shutdown_lifetime 0 seconds
"""
SQUID_PASSWORD = """
auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users
acl known proxy_auth REQUIRED
http_access deny !known
"""
DANTE = """
logoutput: {folder}/dante.log
internal: 127.0.0.1 port = {port}
external: lo
socksmethod: {password}
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


@contextlib.contextmanager
def proxy(kind: str, folder: Path, port: int) -> Iterator[str]:
    """A proxy's URL. The names ending in -auth want a password."""
    program, _, auth = kind.partition("-")
    scheme, userinfo = "http", "me:pa55@" if auth else ""
    match program:
        case "tinyproxy":
            needs("tinyproxy")
            text = TINYPROXY.format(port=port, password="BasicAuth me pa55" if auth else "")
            (folder / "proxy.conf").write_text(text)
            command = ["tinyproxy", "-d", "-c", str(folder / "proxy.conf")]
        case "squid":
            needs("squid")
            folder.chmod(0o777)
            password = SQUID_PASSWORD.format(folder=folder) if auth else ""
            text = SQUID.format(port=port, folder=folder, password=password)
            (folder / "proxy.conf").write_text(text)
            hashed = subprocess.run(
                ["openssl", "passwd", "-apr1", "pa55"], capture_output=True, text=True, check=True
            )
            (folder / "users").write_text(f"me:{hashed.stdout}")
            command = ["squid", "-N", "-f", str(folder / "proxy.conf")]
        case _:
            needs("danted")
            scheme = "socks5"
            text = DANTE.format(folder=folder, port=port, password="none")
            (folder / "proxy.conf").write_text(text)
            command = ["danted", "-f", str(folder / "proxy.conf")]
    with running(command, port):
        yield f"{scheme}://{userinfo}127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["tinyproxy", "tinyproxy-auth", "squid", "squid-auth", "dante"])
def test_a_real_proxy_carries_both_kinds_of_requests(kind, tmp_path, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    # pytest's own folders are closed to others, and squid and dante change their user.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)

    def reply(asked):
        assert asked.header("proxy-authorization") is None
        return answer(asked.target.encode() + b" " + asked.body * 1000)

    async def main():
        transport = Transport(5, tls=tls_context())
        async with serving(reply) as plain, serving(reply, authority.server()) as secure:
            for origin in (plain.url, secure.url):
                for _ in range(3):
                    request = UpstreamRequest(
                        method="POST", url=origin + "/x?y", headers=[], body=b"abc", proxy=url
                    )
                    got = await read_whole(await transport.open(request), 1 << 20)
                    assert (got.status, got.body) == (200, b"/x?y " + b"abc" * 1000)
            assert secure.connections == 1
            await transport.close()

    with proxy(kind, tmp_path, free_port()) as url:
        run(main)
