"""The start of a stream is held back by the number of its events, whatever stands between them."""

import pytest

from app.engine.holdback import Held


@pytest.mark.parametrize("event", [b"data: {}\n\n", b"data: {}\r\n\r\n", b"\n,\n{}"])
def test_so_many_events_are_held_and_then_all_is_let_go(event):
    held = Held(tokens=3, seconds=0)
    assert held.add(event, 0.0) == b""
    assert held.add(event, 0.0) == b""
    assert held.add(event, 0.0) == 3 * event
    assert held.add(event, 0.0) == event
