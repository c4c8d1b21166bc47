"""What is told of the ledger: sums by what is asked for, single calls, CSV."""

import csv
import io

import pytest

from app.accounting.store import DAY, HOUR
from app.accounting.usage import Span, as_csv, calls, span_of, sums
from app.telemetry.call_log import CallRecord
from tests.accounting.batches import batch_of, call_of

MIDNIGHT = 1_800_000_000 // DAY * DAY
WHOLE = Span(MIDNIGHT, MIDNIGHT + 2 * DAY)


def a_sum(at, token, model, key, calls, tokens, cost, unpriced=0) -> list[tuple]:
    figures = (calls, 0, tokens, 0, 0, tokens, 0, 0, cost, unpriced)
    return [
        (seconds, at // seconds * seconds, token, "openai-api", model, key, *figures)
        for seconds in (HOUR, DAY)
    ]


@pytest.fixture
def filled(store):
    rows = [
        call_of(
            (MIDNIGHT + n) * 1000,
            CallRecord(
                request_id=f"r{n}",
                route="/c",
                provider="openai-api",
                token="alice" if n % 2 else "bob",
                status=200 if n else 500,
            ),
        )
        for n in range(7)
    ]
    found = [
        *a_sum(MIDNIGHT + 10, "alice", "big", "k1", 2, 20, 3_000_000_000),
        *a_sum(MIDNIGHT + HOUR, "alice", "small", "k2", 1, 5, 1_500),
        *a_sum(MIDNIGHT + DAY, "bob", "big", "k1", 4, 40, 6_000_000_000),
        *a_sum(MIDNIGHT + DAY, "carol", "strange", "k1", 1, 7, 0, unpriced=1),
    ]
    store.write(batch_of(rows, found, time=MIDNIGHT))
    return store


def test_by_token_the_dearest_first(filled):
    got = sums(filled, "token", WHOLE)
    assert [(s["token"], s["calls"], s["cost_usd"]) for s in got] == [
        ("bob", 4, 6.0),
        ("alice", 3, 3.0000015),
        ("carol", 1, None),
    ]
    assert got[2]["unpriced"] == 1, "unknown is not zero"
    assert got[1]["prompt_tokens"] == 25


def test_by_model_key_and_everything(filled):
    models = sums(filled, "model", WHOLE)
    assert [(s["provider"], s["model"]) for s in models] == [
        ("openai-api", name) for name in ("big", "small", "strange")
    ]
    assert {s["key_id"]: s["calls"] for s in sums(filled, "key", WHOLE)} == {"k1": 7, "k2": 1}
    (everything,) = sums(filled, "all", WHOLE)
    assert everything["calls"] == 8 and everything["unpriced"] == 1


def test_days_and_hours_in_their_order(filled):
    days = sums(filled, "day", WHOLE)
    assert [(s["day"], s["calls"]) for s in days] == [("2027-01-15", 3), ("2027-01-16", 5)]
    hours = sums(filled, "hour", WHOLE, [("token", "alice")])
    assert [(s["hour"], s["calls"]) for s in hours] == [
        ("2027-01-15T00:00Z", 2),
        ("2027-01-15T01:00Z", 1),
    ]
    # From within a day: of its hours.
    later = sums(filled, "day", Span(MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY))
    assert [(s["day"], s["calls"]) for s in later] == [("2027-01-15", 1), ("2027-01-16", 5)]


def test_calls_page_by_page_the_newest_first(filled):
    first = calls(filled, WHOLE, limit=3)
    assert [c["request_id"] for c in first] == ["r6", "r5", "r4"]
    second = calls(filled, WHOLE, before=first[-1]["id"], limit=3)
    assert [c["request_id"] for c in second] == ["r3", "r2", "r1"]
    assert first[0]["time"] == "2027-01-15T00:00:06.000Z" and first[0]["cost_usd"] is None
    assert [c["request_id"] for c in calls(filled, WHOLE, [("status", "500")])] == ["r0"]
    assert len(calls(filled, WHOLE, [("token", "alice"), ("provider", "openai-api")])) == 3
    assert calls(filled, WHOLE, [("token", "x' OR '1'='1")]) == []
    assert len(calls(filled, Span(MIDNIGHT + 2, MIDNIGHT + 4))) == 2


NOW = MIDNIGHT + 5 * HOUR


@pytest.mark.parametrize(
    ("since", "until", "span"),
    [
        (None, None, (MIDNIGHT - 30 * DAY, NOW + 1)),
        ("24h", None, (NOW - DAY, NOW + 1)),
        ("1d", None, (MIDNIGHT - DAY, NOW + 1)),
        ("2027-01-14", "2027-01-14", (MIDNIGHT - DAY, MIDNIGHT)),
        ("2027-01-14T01:00:00Z", "2027-01-14T03:00+01:00", (MIDNIGHT - 23 * HOUR, None)),
    ],
)
def test_spans_of_time(since, until, span):
    if span[1] is None:
        span = (span[0], MIDNIGHT - 22 * HOUR)
    assert span_of(since, until, NOW) == Span(*span)


@pytest.mark.parametrize("words", [("soon", None), ("1d", "2d"), ("99999-01-01", None), ("", "-")])
def test_what_is_no_span_is_told(words):
    with pytest.raises(ValueError, match=r"no time|before"):
        span_of(*words, NOW)


def test_csv_has_plain_numbers_and_harmless_names():
    rows = [
        {"model": "=cmd()", "cost_usd": 1.5e-08, "n": 2},
        {"model": "a,b", "cost_usd": None, "n": 0},
    ]
    text = as_csv(rows)
    assert list(csv.reader(io.StringIO(text))) == [
        ["model", "cost_usd", "n"],
        ["'=cmd()", "0.000000015", "2"],
        ["a,b", "", "0"],
    ]
    assert as_csv([]) == ""
