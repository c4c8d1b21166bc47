"""ChatGPT web: pictures in answers, and where they are fetched."""

import pytest

from app.wire.provider import Key
from providers.openai import web, web_images
from tests.providers.openai.web_framings import C1
from tests.providers.web_calls import NOW
from tests.wire.test_cookies import jwt


def session(**fields: str) -> Key:
    return Key(web.POOL, "10001", jwt({"exp": NOW + 100_000}), fields)


def test_a_link_opens_one_file_of_one_session_and_tells_no_secret() -> None:
    key = session()
    for pointer, file in (
        ("file-service://file-3lZo_X-1", "file-3lZo_X-1"),
        ("sediment://file_0000abc", "file_0000abc"),
        ("sediment://file_0000abc#file_0000abc#p_0.jpg", "file_0000abc"),
    ):
        link = web_images.link(pointer, C1, key)
        assert link is not None and link.startswith(f"/gptimage/{file}?index=10001&")
        assert key.val not in link
        sig = link.partition("sig=")[2]
        assert web_images.is_genuine(sig, file, C1, key)
        assert not web_images.is_genuine(sig, "file-other", C1, key)
        assert not web_images.is_genuine(sig, file, "other", key)
        assert not web_images.is_genuine(sig, file, C1, Key(web.POOL, "2", key.val))
        assert not web_images.is_genuine(sig, file, C1, Key(web.POOL, "10001", "x"))
        assert not web_images.is_genuine("é", file, C1, key)
    own = web_images.link("file-service://file-1", C1, Key(web.POOL, "", "t"))
    assert own == f"/gptimage/file-1?conversation_id={C1}"


@pytest.mark.parametrize(
    "pointer",
    ["", "file-1", "file-service://../x", "file-service://file-a/b", "sediment://file-" + "a" * 200,
     "https://x/file-1", "file-service://file-1?x", "file-service://file-\n"],
)  # fmt: skip
def test_a_pointer_that_is_none_makes_no_link(pointer: str) -> None:
    assert web_images.link(pointer, C1, session()) is None


def test_where_a_file_is_fetched() -> None:
    assert web_images.download_path("file-1", "") == "/backend-api/files/file-1/download"
    assert web_images.download_path("file_1", C1) == (
        f"/backend-api/conversation/{C1}/attachment/file_1/download"
    )
    assert web_images.download_path("file_1", "") is None
    assert web_images.download_path("file_1", "../x") is None
