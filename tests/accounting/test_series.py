"""The ledger over time: what the console's plots show."""

import pytest

from app.accounting.series import series
from app.accounting.store import DAY
from app.telemetry.call_log import CallRecord
from tests.accounting.batches import batch_of, call_of

NOW = 1_800_000_000 // DAY * DAY + 39_990  # a multiple of 15, not of 1800


def a_call(ago: float, first_ms: float | None = 100.0, **more) -> tuple:
    record = CallRecord(
        request_id="r",
        route="/c",
        **{"provider": "openai-api", "model": "big", "outcome": "complete", "status": 200, **more},
    )
    record.first_event_ms = first_ms
    record.prompt_tokens, record.completion_tokens, record.counted = 3, 4, "told"
    return call_of(int((NOW - ago) * 1000), record)


def write(store, rows=(), sums=()) -> None:
    store.write(batch_of(rows, sums, time=NOW))


def test_calls_stand_in_their_step(store):
    failed = {"outcome": "upstream_error", "status": 503}
    write(
        store,
        [
            a_call(1, stream=True),
            a_call(14),
            a_call(16, None, **failed),
            a_call(899),
            a_call(901),  # before the first step
        ],
    )
    found = series(store, "15m", "all", NOW)
    assert (found.start, found.seconds, found.last_seconds) == (NOW - 900, 15, 15)
    (line,) = found.lines
    assert line.calls == [1] + [0] * 57 + [1, 2]
    assert (line.failed[-2:], line.streams[-2:], line.tokens[-2:]) == ([1, 0], [0, 1], [7, 14])
    assert line.p50_ms[-2] is None, "no answer began in this step"
    assert line.p50_ms[-1] == pytest.approx(100, rel=0.1)


def test_a_step_that_has_just_begun_is_not_shown_where_steps_are_short(store):
    write(store, [a_call(-2), a_call(5)])
    found = series(store, "15m", "all", NOW + 3)
    assert found.start + 60 * 15 == NOW
    assert found.lines[0].calls[-1] == 1
    day = series(store, "1d", "all", NOW + 3)
    assert day.lines[0].calls[-1] == 2
    assert day.start + 47 * 1800 + day.last_seconds == NOW + 4


@pytest.mark.parametrize("ms", [0.4, 9, 55, 730, 4_200])
def test_percentiles_are_off_by_a_tenth_at_most(store, ms):
    write(store, [a_call(1, ms) for _ in range(90)] + [a_call(1, 20 * ms) for _ in range(10)])
    (line,) = series(store, "15m", "all", NOW).lines
    told = line.p50_ms[-1], line.p95_ms[-1]
    if ms < 9:
        assert told[0] < 10, "below ten milliseconds it is all the same"
    else:
        assert told == pytest.approx((ms, 20 * ms), rel=0.11)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("provider", ["openai-api", "claude-api"]),
        ("model", ["big", "small"]),
        ("token", ["", "al"]),
    ],
)
def test_the_group_with_the_most_calls_comes_first(store, by, names):
    other = {"provider": "claude-api", "model": "small", "token": "al"}
    write(store, [a_call(1), a_call(2), a_call(3, **other)])
    found = series(store, "15m", by, NOW)
    assert [line.name for line in found.lines] == names
    assert [sum(line.calls) for line in found.lines] == [2, 1]


def test_no_more_than_eight_groups_are_told(store):
    write(store, [a_call(1, model=f"m{n}") for n in range(12)])
    assert len(series(store, "15m", "model", NOW).lines) == 8


def test_days_come_from_sums(store):
    today = NOW // DAY * DAY
    figures = (5, 1, 10, 0, 0, 20, 0, 0, 0, 0)
    group = ("al", "openai-api", "big", "k1")
    write(
        store,
        sums=[
            (DAY, today, *group, *figures),
            (DAY, today - 30 * DAY, *group, *figures),
            (DAY, today - 31 * DAY, *group, *figures),
            (3600, today, *group, *figures),
        ],
    )
    found = series(store, "30d", "token", NOW)
    (line,) = found.lines
    assert found.start == today - 30 * DAY and line.name == "al"
    assert line.calls == [5] + [0] * 29 + [5]
    assert (line.failed[-1], line.tokens[-1], line.p50_ms[-1]) == (1, 30, None)


def test_an_empty_ledger_has_no_lines(store):
    assert series(store, "15m", "all", NOW).lines == []
