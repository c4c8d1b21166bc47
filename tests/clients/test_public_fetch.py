"""The guarded fetch: what a caller may make the gateway look at."""

import asyncio

import pytest

from app.clients import public_fetch as room
from app.clients.public_fetch import Pictures, fetch, is_public
from app.wire.errors import GatewayError


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:db8::1", "not an address",
        "fec0::1", "feff::1", "64:ff9b:1::1", "64:ff9b:1:ffff::808:808", "192.88.99.1",
        "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1",
        "192.175.48.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "168.63.129.16",
        "::7f00:1", "::8.8.8.8", "::ffff:0:127.0.0.1", "100::1", "100:0:0:1::1", "2001::1",
        "2001:2::1", "2001:10::1", "2001:20::1", "2001:1::1", "2002:808:808::1", "3fff::1",
        "5f00::1", "2620:4f:8000::1", "4000::1", "64:ff9b::192.88.99.1", "fd00:ec2::254",
    ],
)  # fmt: skip
def test_what_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888", "64:ff9b::808:808"],
)
def test_what_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]/x", "http://0x7f000001/",
        "http://2130706433/", "http://127.1/", "file:///etc/passwd", "ftp://1.1.1.1/x",
        "http://user:pw@1.1.1.1/", "http:///x", "http://1.1.1.1:99999/", "gopher://x", "",
        "http://1.1.1.1:22/", "https://1.1.1.1:8443/", "http://1.1.1.1:8080/", "http://[::1/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url):
    with pytest.raises(GatewayError) as caught:
        asyncio.run(fetch(url))
    assert caught.value.status == 400 and caught.value.code == "image_not_fetched"


def served(answer, url="http://pictures.example{port}/a.png", answers=None, **limits):
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
                ports=(80, 443, port),
                **limits,
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


def test_a_redirect_to_another_port_is_refused():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://a.example:25/\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(GatewayError) as caught:
        served(moved)
    assert "port" in caught.value.message


def test_endless_redirects_end():
    moved = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(GatewayError) as caught:
        served(moved.replace(b"/again", b"/again"))
    assert "redirects" in caught.value.message


def test_an_endless_picture_is_refused():
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + b"x" * 5000
    with pytest.raises(GatewayError) as caught:
        served(endless, max_bytes=1000)
    assert "larger" in caught.value.message


def test_a_slow_picture_is_refused(monkeypatch):
    monkeypatch.setattr(room, "MAX_SECONDS", 0.1)

    async def resolve(host, port):
        await asyncio.sleep(5)

    with pytest.raises(GatewayError) as caught:
        asyncio.run(fetch("http://x.example/", resolve=resolve))
    assert "took longer" in caught.value.message


# Those of one call.


def pictures(found, urls):
    """What `Pictures` makes of these URLs, and which of them were fetched."""
    asked = []

    async def get(url, *, max_bytes):
        asked.append(url)
        content = found[url]
        if isinstance(content, GatewayError):
            raise content
        if len(content) > max_bytes:
            raise GatewayError(400, "larger")
        return "image/png", content

    async def run():
        own = Pictures(get)
        answers = []
        for each in urls:
            try:
                answers.append(await own.get(each))
            except GatewayError as error:
                answers.append(error)
        return answers

    return asyncio.run(run()), asked


def test_each_picture_is_fetched_once_however_many_attempts_want_it():
    answers, asked = pictures({"a": b"1", "b": b"2"}, [["a", "b"], ["b", "a"], ["a"]])
    assert answers[0] == answers[1] == {"a": ("image/png", b"1"), "b": ("image/png", b"2")}
    assert answers[2] == {"a": ("image/png", b"1")} and asked == ["a", "b"]


def test_a_picture_that_cannot_be_had_is_not_fetched_again():
    missing = GatewayError(400, "none there")
    answers, asked = pictures({"a": missing}, [["a"], ["a"]])
    assert answers == [missing, missing] and asked == ["a"]


def test_seventeen_pictures_are_refused_before_one_is_fetched():
    urls = [str(n) for n in range(17)]
    (answer,), asked = pictures({}, [urls])
    assert answer.status == 400 and "16" in answer.message and "data:" in answer.message
    assert answer.code == "image_not_fetched" and not asked
    answers, asked = pictures({url: b"" for url in urls}, [urls[:16]])
    assert len(answers[0]) == 16


def test_all_pictures_together_have_a_size(monkeypatch):
    monkeypatch.setattr(room, "MAX_TOTAL_BYTES", 100)
    answers, asked = pictures({"a": b"x" * 60, "b": b"x" * 60}, [["a", "b"]])
    assert answers[0].status == 400 and asked == ["a", "b"]


def test_all_pictures_together_have_a_time(monkeypatch):
    monkeypatch.setattr(room, "MAX_TOTAL_SECONDS", 0.05)

    async def get(url, *, max_bytes):
        await asyncio.sleep(5)

    with pytest.raises(GatewayError) as caught:
        asyncio.run(Pictures(get).get(["a"]))
    assert "longer" in caught.value.message


def test_all_fetches_share_one_tls_context(monkeypatch):
    made = []
    real = room.tls_context
    monkeypatch.setattr(room, "tls_context", lambda: made.append(real()) or made[-1])
    room.shared_tls.cache_clear()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\npng"
    for _ in range(3):
        served(head)
    assert len(made) == 1
