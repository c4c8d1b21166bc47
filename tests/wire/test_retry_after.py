"""How long callers are told to wait."""

from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.retry_after import retry_after, retry_after_header, whole_seconds
from app.wire.upstream import UpstreamReply
from providers.claude.api import PROVIDER as CLAUDE
from providers.claude.web_errors import read_error as claude_web
from providers.coze.discord import read_error as discord
from providers.gemini.errors import read_error as gemini
from providers.openai.api import PROVIDER as OPENAI
from providers.openai.web_errors import read_error as openai_web

NOW = 1_800_000_000.0
NONSENSE = ["1e12", "9" * 400, "-5", "nan", "inf", "1_0", "soon", "", "\u0663", "0x10"]


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0, "1"), (-3, "1"), (0.2, "1"), (1, "1"), (1.01, "2"), (7, "7"), (1800, "1800"),
     (1800.5, "1800"), (1e12, "1800"), (float("inf"), "1800")],
)  # fmt: skip
def test_callers_hear_whole_seconds_up_to_half_an_hour(seconds, header):
    assert str(whole_seconds(seconds)) == header


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),  # Azure
        ({"retry-after-ms": "0", "retry-after": "Fri, 15 Jan 2027 08:00:09 GMT"}, 9.0),
        ({"retry-after-ms": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "1"}, 1.0),
        ({"retry-after": "1000000000000"}, 1e12),
        ({"retry-after": "Wed, 15 Jan 3026 08:00:00 GMT"}, pytest.approx(31_525_200_000, rel=0.01)),
    ],
)
def test_what_an_upstream_asks_for(headers, seconds):
    assert retry_after_header(headers, NOW) == seconds == retry_after(headers, b"", NOW)


def test_without_a_clock_a_date_counts_from_the_answers_own():
    at = "Fri, 15 Jan 2027 08:00:09 GMT"
    assert retry_after_header({"retry-after": at}) is None
    assert retry_after_header({"retry-after": at, "date": "Fri, 15 Jan 2027 08:00:00 GMT"}) == 9.0


READERS = {
    "openai": OPENAI.read_error,
    "openai web": openai_web,
    "claude": CLAUDE.read_error,
    "claude web": claude_web,
    "gemini": gemini,
    "discord": discord,
}
SAID = b'{"error":{"message":"no","type":"t","param":null,"code":null}}'


@pytest.mark.parametrize(
    ("reader", "body"),
    [
        pytest.param(reader, body, id=f"{reader}-{name}")
        for reader in READERS
        for name, body in (("json", SAID), ("page", b"<html>"))
        if (reader, name) != ("discord", "page")  # the bridge speaks JSON
    ],
)
def test_every_upstreams_word_is_read_alike(reader, body):
    def read(value, **more):
        headers = {"content-type": "application/json", "retry-after": value, **more}
        return READERS[reader](UpstreamReply(429, headers, body)).retry_after

    assert read("7") == 7.0 and read("0.5") == 0.5
    assert [read(value) for value in NONSENSE] == [None] * len(NONSENSE)
    assert read("1", **{"retry-after-ms": "0"}) == 1.0
    now = {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}
    assert read("Fri, 15 Jan 2027 08:00:09 GMT", **now) == 9.0


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after": " 0.5 "}, b"", 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, b"", 0.25),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, b"", 30.0),
        (
            # The upstream's clock is an hour ahead of ours: what counts is the distance.
            {
                "retry-after": formatdate(NOW + 3630, usegmt=True),
                "date": formatdate(NOW + 3600, usegmt=True),
            },
            b"",
            30.0,
        ),
        ({"retry-after": formatdate(NOW - 99, usegmt=True)}, b"", 0.0),
        ({"retry-after": "2027-01-15T08:00:20Z"}, b"", 20.0),
        ({}, b'{"error":{"details":[{"retryDelay": "34.07s"}]}}', 34.07),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, b"", 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, b"", 0.02),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "20ms"}, b"", None),
        (
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3s"},
            b"",
            3723,
        ),
        ({}, b"", None),
        ({"retry-after": "soon"}, b"", None),
        ({"retry-after": "-5"}, b"", None),
        ({"retry-after": "nan"}, b"", None),
        ({"retry-after": "inf"}, b"", None),
        ({"retry-after": "1_0"}, b"", None),
        ({"retry-after": "1e9"}, b"", None),
        ({"retry-after": "9" * 400}, b"", None),
        ({"retry-after": "Fri, 99 Foo 99999 99:99:99 GMT"}, b"", None),
        ({"retry-after": "\u0663"}, b"", None),  # a digit, but not one of ours
    ],
)
def test_how_long_an_upstream_asks_us_to_wait(headers, body, seconds):
    assert retry_after(headers, body, NOW) == (None if seconds is None else pytest.approx(seconds))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["retry-after", "retry-after-ms", "date", "x-ratelimit-remaining-requests",
             "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"]
        ),
        st.text(max_size=40) | st.sampled_from(["0", "1s", "99999999999999999999"]),
    ),
    st.binary(max_size=60),
)  # fmt: skip
def test_nonsense_is_survived(headers, body):
    seconds = retry_after(headers, body, NOW)
    assert seconds is None or 0 <= seconds < float("inf")
