"""Texts that a field accepts."""

import pytest

from app.config.fields import convert, field_hints
from app.config.schema import Config, OpenAI


@pytest.mark.parametrize(
    ("good", "texts"),
    [
        (True, ["https://a.b", "http://a.b/", "http://127.0.0.1:8998/openai", "https://[::1]:1/x/"]),
        (
            False,
            ["a.b", "https://", "https:///x", "https://a.b?x=1", "https://a.b#x", "https://a.b?",
             "https://u:p@a.b", "https://a b", "https://a.b:99999", "https://a.b:0", "https://a:",
             "https://a.b:x", "ws://a", "https://[::1", "https://a.b\\c", "https://ä.de",
             "https://a\n.b", "https://-a"],
        ),
    ],
)  # fmt: skip
def test_an_upstream_address_is_an_origin_with_or_without_a_path(good, texts):
    hint = field_hints(OpenAI)["api_url"]
    assert {text: convert(text, hint) == (text, "") for text in texts} == dict.fromkeys(texts, good)


@pytest.mark.parametrize(
    ("good", "texts"),
    [
        (True, ["http://a", "https://a:1/", "socks5://u:p@a:1", "http://u:p%40@[::1]:1"]),
        (True, ["socks5h://a", "socks5h://u:p@a:1/", "SOCKS5H://[::1]:1"]),
        (False, ["a:1", "socks4://a:1", "http://a/path", "http://a?x", "http://u:p@", "ftp://a"]),
    ],
)
def test_a_proxy_may_have_a_password_but_no_path(good, texts):
    hint = field_hints(Config)["proxy_url"]
    assert {text: convert(text, hint) == (text, "") for text in texts} == dict.fromkeys(texts, good)
