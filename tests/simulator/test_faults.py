"""Each fault on the wire, as a client sees it: the bytes, and how the connection ended."""

import json
import re
import time
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest

from app.simulator.faults import parse, split_then_ok
from tests.simulator.wire import chat, chat_bytes, connect, read

EVENTS = 5  # of an answer to "hi": role, "You", " said:", " hi", finish; then [DONE]
DONE = b"data: [DONE]\n\n"


def events(body: bytes) -> list[bytes]:
    assert body.endswith(b"\n\n")
    return body.split(b"\n\n")[:-1]


def test_without_a_fault_each_event_is_one_write(simulator):
    seen = chat(simulator.url, "gpt-4o")
    assert seen.end == "whole" and len(seen.writes) == EVENTS + 1
    assert seen.writes[-1] == DONE
    assert all(write.startswith(b"data: {") for write in seen.writes[:-1])


@pytest.mark.parametrize(
    ("model", "status", "retry_after"),
    [
        ("sim-429", 429, "1"),
        ("sim-429-after-7", 429, "7"),
        ("sim-429-after-none", 429, None),
        ("sim-429-after-soon", 429, "soon"),
        ("sim-quota", 429, None),
        ("sim-401", 401, None),
        ("sim-402", 402, None),
        ("sim-403", 403, None),
        ("sim-500", 500, None),
        ("sim-503-after-3", 503, "3"),
        ("sim-529", 529, None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_has_its_status_and_retry_after(simulator, model, status, retry_after, stream):
    seen = chat(simulator.url, model, stream)
    assert (seen.status, seen.header("retry-after")) == (status, retry_after)
    assert set(json.loads(seen.body)["error"]) == {"message", "type", "param", "code"}


def test_retry_after_can_be_a_date(simulator):
    when = parsedate_to_datetime(chat(simulator.url, "sim-429-after-date-30").header("retry-after"))
    assert 25 < when.timestamp() - time.time() < 32


@pytest.mark.parametrize(
    ("model", "count", "end"),
    [
        ("sim-hang", 0, "silent"),
        ("sim-hang-after-0", 0, "silent"),
        ("sim-hang-after-3", 3, "silent"),
        ("sim-hang-after-99", EVENTS + 1, "silent"),
        ("sim-cut-after-0", 0, "reset"),
        ("sim-cut-after-3", 3, "reset"),
        ("sim-cut-after-99", EVENTS + 1, "reset"),
        ("sim-close-after-3", 3, "fin"),
        ("sim-end-after-3", 3, "whole"),
        ("sim-end-after-0", 0, "whole"),
    ],
)
def test_a_stream_breaks_after_exactly_so_many_events(simulator, model, count, end):
    seen = chat(simulator.url, model, seconds=0.6)
    assert (len(seen.writes), seen.end) == (count, end)
    assert seen.status == (0 if model == "sim-hang" else 200)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100, 333])
def test_a_cut_comes_at_exactly_this_byte(simulator, size, stream):
    seen = chat(simulator.url, f"sim-cut-at-byte-{size}", stream)
    assert (seen.status, len(seen.body), seen.end) == (200, size, "reset")


@pytest.mark.parametrize(
    ("model", "end"),
    [
        ("sim-cut-after-1", "reset"),
        ("sim-close-after-1", "fin"),
        ("sim-hang-after-1", "silent"),
        ("sim-end-after-1", "whole"),
    ],
)
def test_an_answer_that_is_not_streamed_breaks_half_way(simulator, model, end):
    whole = chat(simulator.url, "gpt-4o", stream=False).body
    seen = chat(simulator.url, model, stream=False, seconds=0.6)
    assert seen.end == end
    assert len(whole) // 2 - 5 < len(seen.body) < len(whole) // 2 + 5


def test_a_reset_comes_before_any_byte(simulator):
    seen = chat(simulator.url, "sim-reset")
    assert (seen.status, seen.end) == (0, "reset")


def test_an_error_event_stands_in_the_middle_of_a_200(simulator):
    seen = chat(simulator.url, "sim-error-event")
    last = events(seen.body)[-1]
    assert (seen.status, len(seen.writes), seen.end) == (200, 3, "whole")
    assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "server_error"


def test_broken_json_is_one_event_of_a_stream_and_half_of_a_body(simulator):
    seen = events(chat(simulator.url, "sim-bad-json-1").body)
    with pytest.raises(json.JSONDecodeError):
        json.loads(seen[1].removeprefix(b"data: "))
    assert json.loads(seen[2].removeprefix(b"data: "))["choices"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(chat(simulator.url, "sim-bad-json", stream=False).body)


@pytest.mark.parametrize("stream", [True, False])
def test_a_page_comes_in_place_of_an_answer(simulator, stream):
    seen = chat(simulator.url, "sim-html", stream)
    assert seen.status == 200 and seen.header("content-type").startswith("text/html")
    assert chat(simulator.url, "sim-html-503", stream).status == 503


def test_a_redirect_leads_elsewhere_on_the_simulator(simulator):
    seen = chat(simulator.url, "sim-redirect")
    assert (seen.status, seen.header("location")) == (307, "http://simulator/elsewhere")


@pytest.mark.parametrize("size", [1, 7])
def test_a_body_is_split_into_writes_of_this_size(simulator, size):
    seen = chat(simulator.url, f"sim-split-{size}")
    assert max(map(len, seen.writes)) == size and seen.body.endswith(DONE)
    assert chat(simulator.url, "sim-split-bytes").body.endswith(DONE)


def test_framings_of_other_servers(simulator):
    crlf = chat(simulator.url, "sim-crlf").body
    assert crlf.endswith(b"data: [DONE]\r\n\r\n") and crlf.count(b"\n") == crlf.count(b"\r\n")
    comments = events(chat(simulator.url, "sim-comments").body)
    assert comments[::2] == [b": ping"] * (EVENTS + 1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_can_end_with_the_connection_alone(simulator, stream):
    seen = chat(simulator.url, "sim-no-length", stream)
    assert seen.header("content-length") is seen.header("transfer-encoding") is None
    assert seen.end == "fin" and (seen.body.endswith(DONE) if stream else json.loads(seen.body))


def test_drips_and_slow_starts_take_their_time(simulator):
    begun = time.monotonic()
    chat(simulator.url, "sim-drip-30")
    assert time.monotonic() - begun > 0.03 * EVENTS
    with connect(simulator.url) as peer:
        peer.sendall(chat_bytes("sim-slow-first-150"))
        begun = time.monotonic()
        peer.recv(1)
        assert time.monotonic() - begun > 0.14
    with connect(simulator.url) as peer:
        peer.sendall(chat_bytes("sim-slow-event-150"))
        assert b"data:" not in peer.recv(65536)
        assert b"data:" in peer.recv(65536)


def test_long_and_big_answers_have_the_size_asked_for(simulator):
    assert len(chat(simulator.url, "sim-long-500").writes) == 500 + 3
    whole = json.loads(chat(simulator.url, "sim-big-64", stream=False).body)
    assert len(whole["choices"][0]["message"]["content"]) == 64 * 1024


def test_faults_are_joined_by_plus(simulator):
    seen = chat(simulator.url, "sim-long-50+crlf+cut-after-20")
    assert (len(seen.writes), seen.end) == (20, "reset") and b"\r\n\r\n" in seen.body


def test_a_name_that_means_nothing_is_told_not_ignored(simulator):
    seen = chat(simulator.url, "sim-cut-afer-3")
    assert seen.status == 501 and b"cut-afer-3" in seen.body


def test_then_ok_fails_so_often_and_is_well_for_every_key_afterwards(simulator):
    def status(key):
        return chat(simulator.url, "sim-500-times-2-then-ok-here", key=key).status

    assert [status("sk-1"), status("sk-2"), status("sk-3"), status("sk-1")] == [500, 500, 200, 200]
    assert chat(simulator.url, "sim-500-times-2-then-ok-there").status == 500


def test_then_ok_keeps_the_content_that_was_asked_for():
    assert split_then_ok("long-9+cut-after-2-then-ok") == ("long-9+cut-after-2", "long-9", 1)
    assert split_then_ok("429-after-7-times-3-then-ok-tag") == ("429-after-7", "", 3)
    assert split_then_ok("503") == ("503", "503", 0)


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("sk-limited", 429),
        ("sk-dead-1", 401),
        ("sk-broken", 500),
        ("sk-quota", 429),
        ("sk-forbidden", 403),
        ("sk-unpaid", 402),
        ("sk-overloaded", 503),
        ("sk-bad", 401),
        ("sk-expired", 401),
        ("somebody", 401),
        ("sk-fine", 200),
    ],
)
def test_a_word_in_the_key_decides_how_it_fares(simulator, key, status):
    assert chat(simulator.url, "gpt-4o", key=key).status == status


def test_a_limited_key_says_how_long(simulator):
    assert chat(simulator.url, "gpt-4o", key="sk-limited-9-x").header("retry-after") == "9"


def test_an_outage_is_set_from_outside_for_so_many_requests(simulator):
    simulator.fault("503", times=2, key="sk-outage")
    statuses = [chat(simulator.url, "gpt-4o", key="sk-outage").status for _ in range(3)]
    assert statuses == [503, 503, 200]
    assert chat(simulator.url, "gpt-4o", key="sk-other").status == 200


def test_an_outage_with_an_unknown_fault_is_refused(simulator):
    with pytest.raises(AssertionError, match="no fault is named"):
        simulator.fault("explode")


# Every name of the module's own documentation, with a number where it takes one.
DOCUMENTED = re.findall(
    r"\S+",
    """429 401 403 402 500 503 529 429-after-7 429-after-date-7 429-after-soon 429-after-none quota
    html html-503 redirect hang reset slow-first-5 slow-event-5 hang-after-1 cut-after-1
    close-after-1 cut-at-byte-1 end-after-1 error-event error-event-1 bad-json bad-json-1 drip
    drip-5 split-bytes split-3 crlf comments no-length chunked big-1 long-1 refusal replay-x""",
)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_name_is_known(name):
    fault = parse(name)
    assert not fault.unknown and fault != parse("")


def test_events_of_a_drip_arrive_one_by_one(simulator):
    with connect(simulator.url) as peer:
        peer.sendall(chat_bytes("sim-drip-40"))
        arrivals = []
        while b"[DONE]" not in (piece := peer.recv(65536)):
            arrivals.append((time.monotonic(), piece))
    gaps = [after[0] - before[0] for before, after in pairwise(arrivals)]
    assert len(gaps) >= EVENTS - 1 and max(gaps) > 0.03


def test_a_connection_is_used_again_after_a_whole_answer(simulator):
    with connect(simulator.url) as peer:
        for _ in range(3):
            peer.sendall(chat_bytes("gpt-4o"))
            assert read(peer).end == "whole"
