"""Lives of tokens and cookies."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.cookies import Cookie, after_set_cookie, jwt_expiry, read_cookie, read_cookie_header

NOW = 1_700_000_000


def jwt(claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2ln"


@pytest.mark.parametrize(
    ("token", "expiry"),
    [
        (jwt({"exp": 1_800_000_000}), 1_800_000_000),
        (jwt({"exp": 1_800_000_000.7, "x": ["é?>"]}), 1_800_000_000),
        (jwt({"sub": "x"}), None),
        (jwt({"exp": "soon"}), None),
        (jwt({"exp": 1e300}), None),
        (jwt([1]), None),
        ("", None),
        ("sk-ant-sid01-abc", None),
        ("a.b.c", None),
        ("a.!!!.c", None),
        ("é.é.é", None),
    ],
)
def test_a_jwt_says_when_it_ends(token: str, expiry: int | None) -> None:
    assert jwt_expiry(token) == expiry


@pytest.mark.parametrize(
    ("line", "cookie"),
    [
        ("a=1", Cookie("a", "1", None)),
        ("a=1; Path=/; HttpOnly; Secure", Cookie("a", "1", None)),
        ("a=b=c; Max-Age=60", Cookie("a", "b=c", NOW + 60)),
        ("a=1; max-age=0", Cookie("a", "1", 0)),
        ("a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", Cookie("a", "1", 1792567680)),
        ("a=1; Expires=Wed, 21-Oct-2026 07:28:00 GMT", Cookie("a", "1", 1792567680)),
        ("a=1; expires=Thu, 01 Jan 1970 00:00:00 GMT", Cookie("a", "1", 0)),
        ("a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=5", Cookie("a", "1", NOW + 5)),
        ("a=1; Expires=rubbish", Cookie("a", "1", None)),
        ("nonsense", None),
        ("=1", None),
    ],
)
def test_a_set_cookie_line_says_what_and_until_when(line: str, cookie: Cookie | None) -> None:
    assert read_cookie(line, NOW) == cookie


def test_an_answer_changes_the_cookies_of_the_next_request() -> None:
    lines = ["b=new; Path=/", "c=3", "a=; Max-Age=0", "junk"]
    assert after_set_cookie("a=1; b=old; d=4", lines, NOW) == "b=new; d=4; c=3"
    assert after_set_cookie("", [], NOW) == ""


@settings(max_examples=100)
@given(st.text(), st.text())
def test_no_text_breaks_the_readers(one: str, other: str) -> None:
    jwt_expiry(one)
    read_cookie(one, NOW)
    read_cookie(f"a=1; expires={one}; max-age={other}", NOW)
    read_cookie_header(one)
