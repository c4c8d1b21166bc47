"""Recorded answers: read whole, and replayed byte for byte."""

import pytest

from app.simulator.recordings import DEFAULT, Recordings
from tests.simulator.wire import chat

RECORDED = Recordings(DEFAULT)


def recorded_names():
    return [pytest.param(name, id=name) for name in RECORDED.names("openai")]


@pytest.mark.parametrize("name", recorded_names())
def test_a_recording_is_replayed_byte_for_byte(simulator, name):
    for stream in (True, False):
        recorded = RECORDED.find("openai", name, stream)
        seen = chat(simulator.url, f"replay-{name}", stream)
        assert (seen.status, seen.body, seen.end) == (recorded.status, recorded.body, "whole")
        assert seen.header("content-type") == recorded.content_type
        for header, value in recorded.headers:
            assert seen.header(header) == value


def test_a_recording_can_be_broken_too(simulator):
    recorded = RECORDED.find("openai", "chat-stream-usage")
    seen = chat(simulator.url, "replay-chat-stream-usage+split-bytes+cut-at-byte-500")
    assert (seen.body, seen.end) == (recorded.body[:500], "reset")


def test_a_recording_that_is_not_there_is_a_404_that_lists_those_that_are(simulator):
    seen = chat(simulator.url, "replay-nothing")
    assert seen.status == 404 and b"chat-basic" in seen.body
    assert chat(simulator.url, "replay-..%2f..%2fx").status == 404


@pytest.mark.parametrize("folder", ["openai", "claude", "gemini", "coze"])
def test_recordings_fall_apart_into_events_without_loss(folder):
    for name in RECORDED.names(folder):
        recorded = RECORDED.find(folder, name)
        assert b"".join(recorded.events()) == recorded.body
        assert recorded.status in range(200, 600)
