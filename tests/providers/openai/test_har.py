"""A session out of a HAR: whole, sanitized, broken, huge."""

import base64
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.openai.har import TO_BE_RENEWED, Found, HarReader, read_har
from tests.wire.test_cookies import jwt

NOW = 1_767_330_000
TOKEN = jwt({"exp": NOW + 9000, "https://api.openai.com/auth": {"chatgpt_account_id": "acc-9"}})


def entry(
    path: str = "/backend-api/me",
    at: str = "2026-01-02T03:04:05.678Z",
    headers: dict[str, str] | None = None,
    cookies: dict[str, str] | None = None,
    host: str = "chatgpt.com",
    content: dict[str, Any] | None = None,
    post: Any = None,
) -> dict[str, Any]:
    return {
        "startedDateTime": at,
        "time": 1.5,
        "request": {
            "method": "GET",
            "url": f"https://{host}{path}",
            "headers": [{"name": n, "value": v} for n, v in (headers or {}).items()],
            "cookies": [
                {"name": n, "value": v, "path": "/", "secure": True}
                for n, v in (cookies or {}).items()
            ],
            "postData": post,
        },
        "response": {"status": 200, "content": content or {"size": 0, "mimeType": "x"}},
        "timings": {},
    }


def har(*entries: Any, indent: int | None = None) -> bytes:
    pages = [{"title": 'a "entries": [ trap', "id": "page_1"}]
    log = {"version": "1.2", "creator": {"name": "x"}, "pages": pages, "entries": entries}
    return json.dumps({"log": log}, indent=indent).encode()


def read(data: bytes, size: int = 1 << 20) -> Found:
    return read_har((data[at : at + size] for at in range(0, len(data), size)), NOW)


def session_json(token: str | None = TOKEN) -> dict[str, Any]:
    told = {"user": {"id": "u"}, "expires": "2026-08-26T09:11:48.021Z", "accessToken": token}
    return {"mimeType": "application/json", "text": json.dumps(told)}


WHOLE = har(
    entry("/old", "2026-01-01T00:00:00Z", {"User-Agent": "old"}, {"oai-did": "old", "gone": "1"}),
    entry(
        "/api/auth/session",
        cookies={
            "__Secure-next-auth.session-token.0": "ab",
            "__Secure-next-auth.session-token.1": "cd",
            "oai-did": "d-1",
            "__cf_bm": "stale",
        },
        headers={":authority": "chatgpt.com", "user-agent": "agent/1", "sec-ch-ua": '"C";v="1"'},
        content=session_json(),
    ),
    entry("/backend-api/me", headers={"Authorization": "Bearer other", "oai-device-id": "d-1"}),
    entry("/x", host="evil.example", cookies={"a": "b"}, headers={"user-agent": "wrong"}),
    entry("/x", host="notchatgpt.com", cookies={"a": "b"}),
    "nonsense",
)


def test_the_newest_of_everything_is_taken_and_only_of_our_hosts() -> None:
    found = read(WHOLE)
    assert (found.problem, found.val, found.expires) == ("", TOKEN, NOW + 9000)
    assert found.fields == {
        "user_agent": "agent/1",
        "sec-ch-ua": '"C";v="1"',
        "device_id": "d-1",
        "account_id": "acc-9",
        "cookies": "oai-did=d-1; gone=1; __Secure-next-auth.session-token.0=ab; "
        "__Secure-next-auth.session-token.1=cd",
    }


@pytest.mark.parametrize("size", [1, 2, 7, 100, 5000])
def test_pieces_of_any_size_give_the_same(size: int) -> None:
    assert read(WHOLE, size) == read(WHOLE)
    assert read(b"\xef\xbb\xbf" + WHOLE, size) == read(WHOLE)


def test_an_indented_file_and_a_base64_answer_are_read() -> None:
    coded = session_json() | {
        "encoding": "base64",
        "text": base64.b64encode(session_json()["text"].encode()).decode(),
    }
    found = read(har(entry("/api/auth/session", content=coded), indent=2))
    assert found.val == TOKEN


def test_the_bearer_of_a_backend_request_is_the_second_choice() -> None:
    told = {"authorization": f"Bearer {TOKEN}"}
    assert read(har(entry(headers=told))).val == TOKEN
    assert read(har(entry("/other", headers=told))).problem.startswith("it holds no access token")


def test_a_session_cookie_without_a_token_is_enough_to_fetch_one() -> None:
    header = {"cookie": "__Secure-next-auth.session-token=x; b=c"}
    found = read(har(entry(headers=header)))
    assert found.val == TO_BE_RENEWED
    assert found.fields["cookies"] == "__Secure-next-auth.session-token=x; b=c"


def test_a_fresh_cloudflare_cookie_is_kept_and_an_old_one_is_not() -> None:
    def cookies(at: str) -> str:
        given = {"__cf_bm": "x", "oai-did": "d"}
        header = {"authorization": f"Bearer {TOKEN}"}
        return read(har(entry(at=at, cookies=given, headers=header))).fields["cookies"]

    assert cookies("2026-01-02T04:55:00Z") == "__cf_bm=x; oai-did=d"  # five minutes ago
    assert cookies("2026-01-02T04:00:00Z") == "oai-did=d"


@pytest.mark.parametrize(
    "where",
    [
        entry(headers={"openai-sentinel-arkose-token": "ark|1"}),
        entry("/backend-api/conversation", post={"text": '{"arkose_token":"ark|1"}'}),
        entry("/fc/gt2/public_key/x", host="tcr9i.example", content={"text": '{"token":"ark|1"}'}),
    ],
)
def test_an_arkose_token_is_found_with_its_age(where: dict[str, Any]) -> None:
    found = read(har(entry(headers={"authorization": f"Bearer {TOKEN}"}), where))
    assert (found.fields["arkose_token"], found.fields["arkose_at"]) == ("ark|1", "1767323045")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no HAR file"),
        (b"{}", "no HAR file"),
        (b"\x00\xff" * 100, "no HAR file"),
        (har(), "none of its 0 entries"),
        (har(entry(host="example.com")), "none of its 1 entries"),
        (har(entry(host="example.com"))[:-30], "ends early"),
        (har(entry(), entry("/backend-api/conversation")), "sanitized"),
        (har(entry(cookies={"oai-did": "x"})), "signed in?"),
        (har(entry("/api/auth/session", cookies={"a": "b"}, content=session_json(""))), "signed"),
    ],
)  # fmt: skip
def test_why_there_is_no_session_is_said(data: bytes, said: str) -> None:
    found = read(data)
    assert said in found.problem
    assert not found.val


def test_a_value_with_a_line_break_is_no_value() -> None:
    told = {"authorization": f"Bearer {TOKEN}", "user-agent": "a\r\nHost: evil"}
    assert "user_agent" not in read(har(entry(headers=told))).fields


def test_a_large_file_costs_the_memory_of_one_entry() -> None:
    body = json.dumps(entry("/big", content={"text": 'é"\\' * 60_000})).encode() + b","

    def pieces() -> Iterator[bytes]:
        start, end = WHOLE.split(b'"entries": [')
        yield start + b'"entries": ['
        for _ in range(30):
            yield body
        yield end

    tracemalloc.start()
    found = read_har(pieces(), NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.val == TOKEN
    assert len(body) * 30 > 15_000_000
    assert peak < 8_000_000


def test_an_entry_without_end_is_passed_over_and_not_held() -> None:
    head, tail = json.dumps(entry("/film", content={"text": "-"})).encode().split(b'"-"')

    def pieces() -> Iterator[bytes]:
        start, end = WHOLE.split(b'"entries": [')
        yield start + b'"entries": [' + head + b'"'
        for _ in range(60):
            yield b"film" * 250_000
        yield b'"' + tail + b"," + end

    tracemalloc.start()
    found = read_har(pieces(), NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.val == TOKEN
    assert peak < 40_000_000


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1500))
def test_rubbish_is_told_or_passed_over_but_never_a_crash(junk: bytes, at: int) -> None:
    read(junk)
    read(WHOLE[:at] + junk + WHOLE[at:])
    HarReader(NOW).finish()
