"""How long callers are told to wait."""

import pytest

from app.wire.retry_after import retry_after, retry_after_header, whole_seconds
from app.wire.upstream import UpstreamReply
from providers.claude.api import PROVIDER as CLAUDE
from providers.claude.web_errors import read_error as claude_web
from providers.coze.discord import read_error as discord
from providers.gemini.errors import read_error as gemini
from providers.openai.api import read_error as openai
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
    "openai": openai,
    "openai web": openai_web,
    "claude": CLAUDE.read_error,
    "claude web": claude_web,
    "gemini": gemini,
    "discord": discord,
}
SAID = b'{"error":{"message":"no","type":"t","param":null,"code":null}}'


@pytest.mark.parametrize("body", [SAID, b"<html>"], ids=["json", "page"])
@pytest.mark.parametrize("reader", READERS)
def test_every_upstreams_word_is_read_alike(reader, body):
    if (reader, body) == ("discord", b"<html>"):
        pytest.skip("the bridge speaks JSON")

    def read(value, **more):
        headers = {"content-type": "application/json", "retry-after": value, **more}
        return READERS[reader](UpstreamReply(429, headers, body)).retry_after

    assert read("7") == 7.0 and read("0.5") == 0.5
    assert [read(value) for value in NONSENSE] == [None] * len(NONSENSE)
    assert read("1", **{"retry-after-ms": "0"}) == 1.0
    now = {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}
    assert read("Fri, 15 Jan 2027 08:00:09 GMT", **now) == 9.0
