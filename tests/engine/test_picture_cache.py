"""Pictures on disk: fetched once, whole or not at all, and nothing but pictures."""

import asyncio
import os

import pytest

from app.engine.picture_cache import MAX_BYTES, PictureCache
from app.wire.errors import GatewayError
from app.wire.upstream import UpstreamReply, UpstreamRequest
from tests.engine.fakes import CUT, FakeClients, FakeResponse

FOLDER_BYTES = 1024**3
PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 100
REQUEST = UpstreamRequest(method="GET", url="http://up/x", headers=[], via="browser")
PICTURES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff" + b"x" * 50,
    "image/gif": b"GIF89a" + b"x" * 50,
    "image/webp": b"RIFF\0\0\0\0WEBP" + b"x" * 50,
}


def site(*pieces, status=200):
    return FakeClients(lambda request: FakeResponse(status, [("content-type", "x/y")], pieces))


def fetched(folder, clients, file="file-a"):
    async def main():
        cache = PictureCache(folder, clients, FOLDER_BYTES)
        return await cache.fetch_once(file, lambda: cache.get(REQUEST))

    return asyncio.run(main())


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_is_what_its_bytes_say_and_is_served_from_disk_from_then_on(tmp_path, kind):
    clients = site(PICTURES[kind][:3], PICTURES[kind][3:])
    for _ in range(3):  # each with a memory of its own, like workers
        assert fetched(tmp_path, clients) == (kind, PICTURES[kind])
    assert len(clients.requests) == 1
    assert os.listdir(tmp_path) == ["a"]


def test_many_who_want_one_picture_fetch_it_once(tmp_path):
    clients = site(0.02, PNG)

    async def main():
        cache = PictureCache(tmp_path, clients, FOLDER_BYTES)

        async def one(delay):
            await asyncio.sleep(delay)
            return await cache.fetch_once("file-a", lambda: cache.get(REQUEST))

        found = await asyncio.gather(*(one(n * 0.004) for n in range(12)))
        assert {body for _, body in found} == {PNG}
        assert not cache._fetching  # private: a leak shows nowhere else

    asyncio.run(main())
    assert len(clients.requests) == 1


@pytest.mark.parametrize(
    ("clients", "status", "code"),
    [
        (site(b"<html>"), 502, "upstream_bad_response"),
        (site(b"<svg xmlns=...>"), 502, "upstream_bad_response"),
        (site(b""), 502, "upstream_bad_response"),
        (site(PNG, CUT), 502, "upstream_cut"),
        (site(b"no", status=404), 404, "image_not_found"),
        (site(b"no", status=403), 410, "image_url_expired"),
        (site(b"no", status=302), 502, "upstream_error"),
        (site(b"no", status=500), 502, "upstream_error"),
        (
            site(PNG, *[b"x" * 1024 * 1024] * (MAX_BYTES // 1024 // 1024)),
            502,
            "upstream_bad_response",
        ),
    ],
    ids=["page", "svg", "empty", "cut", "404", "expired", "redirect", "500", "too large"],
)
def test_what_is_no_whole_picture_is_an_error_and_leaves_no_file(tmp_path, clients, status, code):
    with pytest.raises(GatewayError) as bad:
        fetched(tmp_path / "none", clients)
    assert (bad.value.status, bad.value.code) == (status, code)
    assert not (tmp_path / "none").exists()


def test_a_picture_that_cannot_be_kept_is_served_all_the_same(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way of the folder")
    assert fetched(tmp_path / "file", site(PNG)) == ("image/png", PNG)
    assert "cannot be kept" in caplog.text


def test_who_leaves_while_it_is_fetched_leaves_nothing_behind(tmp_path):
    clients = site(PNG[:20], 30, PNG[20:])

    async def main():
        cache = PictureCache(tmp_path, clients, FOLDER_BYTES)

        async def fetch() -> UpstreamReply:
            return await cache.get(REQUEST)

        task = asyncio.create_task(cache.fetch_once("file-a", fetch))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not cache._fetching  # private: a leak shows nowhere else

    asyncio.run(main())
    assert clients.responses[0].closed
    assert not os.listdir(tmp_path)


def test_what_was_not_asked_for_longest_gives_way_and_nothing_but_pictures(tmp_path):
    for age, name in enumerate(["newest", "middle", "oldest"]):
        (tmp_path / name).write_bytes(PNG)
        os.utime(tmp_path / name, (1_000_000_000 - age, 1_000_000_000 - age))
    others = {"notes": b"no picture", "rests.json": PNG, ".young.1": PNG}
    for name, body in others.items():
        (tmp_path / name).write_bytes(body)
    (tmp_path / ".dead.1").write_bytes(PNG)
    os.utime(tmp_path / ".dead.1", (0, 0))
    os.utime(tmp_path / "notes", (0, 0))
    clients = site(PNG)

    async def main():
        cache = PictureCache(tmp_path, clients, 3 * len(PNG) + 100)

        async def fetch() -> UpstreamReply:
            return await cache.get(REQUEST)

        assert await cache.kept("file-oldest") == PNG  # asked for: it stays
        await cache.fetch_once("file-a", fetch)
        assert set(os.listdir(tmp_path)) == {"a", "oldest", "newest", *others}
        await cache.fetch_once("file-b", fetch)
        assert set(os.listdir(tmp_path)) == {"a", "b", "oldest", *others}

    asyncio.run(main())


def test_a_folder_too_small_for_one_picture_keeps_none(tmp_path):
    clients = site(PNG)

    async def main():
        cache = PictureCache(tmp_path, clients, 10)
        return await cache.fetch_once("file-a", lambda: cache.get(REQUEST))

    assert asyncio.run(main()) == ("image/png", PNG)
    assert os.listdir(tmp_path) == []
