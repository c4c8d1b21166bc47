"""A signal to the whole process group: terminals, `timeout`, supervisors and systemd send it so."""

import os
import signal
import time

import httpx
import pytest

from tests.server.conftest import config_for
from tests.server.running import Running, of_session
from tests.server.test_processes import BODY, CHAT

ONE_AFTER = 1.2  # seconds after which a second signal counts as one


def open_stream(gateway, model):
    stream = httpx.stream(
        "POST", gateway.url + CHAT, json=BODY | {"model": model, "stream": True}, timeout=30
    )
    pieces = stream.__enter__().iter_raw()
    next(pieces)
    return stream, pieces


def end_all(gateway):
    for each in of_session(gateway.process.pid):
        os.kill(each, signal.SIGKILL)
    gateway.process.wait()


def as_timeout(pid, number):
    """First the command, then its group, itself included: two signals almost at once."""
    os.kill(pid, number)
    os.killpg(pid, number)


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (os.killpg, signal.SIGTERM),
        pytest.param(os.killpg, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(as_timeout, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(as_timeout, signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_the_group_is_told_and_open_streams_finish(simulator, tmp_path, send, number):
    gateway = Running(tmp_path, config_for(simulator.url, workers=2)).wait()
    try:
        stream, pieces = open_stream(gateway, "sim-long-12+drip-50")
        send(gateway.process.pid, number)
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
        stream.__exit__(None, None, None)
        assert gateway.process.wait(10) == 0
        gateway.wait_gone()
    finally:
        end_all(gateway)
    told = gateway.err.read_text()
    assert not [word for word in ("Traceback", "Error", "cancelled", "warning") if word in told]
    assert [line["outcome"] for line in gateway.log(stream=True)] == ["complete"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_to_the_group_stops_at_once(simulator, tmp_path, number):
    gateway = Running(tmp_path, config_for(simulator.url, workers=2)).wait()
    try:
        _held = open_stream(gateway, "sim-hang-after-2")  # open until the end
        os.killpg(gateway.process.pid, number)
        time.sleep(ONE_AFTER)
        assert gateway.process.poll() is None  # it waits for the stream
        os.killpg(gateway.process.pid, number)
        assert gateway.process.wait(3) == 1
        gateway.wait_gone()
    finally:
        end_all(gateway)
    told = gateway.err.read_text()
    assert "a second signal" in told and "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_group_that_still_starts_ends_without_a_traceback(simulator, tmp_path, number):
    for processes in (2, 3, 4, 5):  # it, what tracks shared memory, Sanic's helper, two workers
        gateway = Running(tmp_path / str(processes), config_for(simulator.url, workers=2))
        try:
            while len(of_session(gateway.process.pid)) < processes:
                time.sleep(0.01)
            os.killpg(gateway.process.pid, number)
            assert gateway.process.wait(10) == 0
            gateway.wait_gone()
        finally:
            end_all(gateway)
        assert "Traceback" not in gateway.err.read_text()
