"""The guarded fetch: what a caller may make the gateway look at."""

import asyncio

import pytest

from app.clients import fetch as room
from app.clients.fetch import fetch, is_public
from app.wire.errors import GatewayError


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:db8::1", "not an address",
    ],
)  # fmt: skip
def test_what_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111"])
def test_what_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]/x", "http://0x7f000001/",
        "http://2130706433/", "http://127.1/", "file:///etc/passwd", "ftp://1.1.1.1/x",
        "http://user:pw@1.1.1.1/", "http:///x", "http://1.1.1.1:99999/", "gopher://x", "",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url):
    with pytest.raises(GatewayError) as caught:
        asyncio.run(fetch(url))
    assert caught.value.status == 400 and caught.value.code == "image_not_fetched"


def served(answer, url="http://pictures.example{port}/a.png", answers=None, after=None):
    """Fetches from a server of our own, whose name resolves to `answers` in turn."""

    async def run():
        seen = []

        async def handle(reader, writer):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        names = iter(answers or [["127.0.0.1"]] * 9)

        async def resolve(host, _port):
            return next(names)

        async with server:
            return seen, await fetch(
                url.format(port=f":{port}"),
                resolve=resolve,
                allowed=lambda address: address == "127.0.0.1",
            )

    return asyncio.run(run())


def test_a_picture_is_fetched_under_its_own_name():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png; x=1\r\nContent-Length: 3\r\n\r\npng"
    seen, found = served(head)
    assert found == ("image/png", b"png")
    assert b"host: pictures.example:" in seen[0].lower()


def test_a_name_that_turns_private_at_a_redirect_is_refused():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://inside.example/\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(GatewayError) as caught:
        served(moved, answers=[["127.0.0.1"], ["10.0.0.1"]])
    assert "public internet" in caught.value.message


def test_a_name_with_one_private_address_is_refused_whole():
    with pytest.raises(GatewayError):
        served(b"", answers=[["127.0.0.1", "10.0.0.1"]])


def test_endless_redirects_end():
    moved = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(GatewayError) as caught:
        served(moved.replace(b"/again", b"/again"))
    assert "redirects" in caught.value.message


def test_an_endless_picture_is_refused(monkeypatch):
    monkeypatch.setattr(room, "MAX_BYTES", 1000)
    with pytest.raises(GatewayError) as caught:
        served(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + b"x" * 5000)
    assert "larger" in caught.value.message


def test_a_slow_picture_is_refused(monkeypatch):
    monkeypatch.setattr(room, "MAX_SECONDS", 0.1)

    async def resolve(host, port):
        await asyncio.sleep(5)

    with pytest.raises(GatewayError) as caught:
        asyncio.run(fetch("http://x.example/", resolve=resolve))
    assert "took longer" in caught.value.message
