"""A fault of ours in the middle of an answer: what was cut must look cut."""

import asyncio
import json
import logging
import re
from contextlib import suppress

import pytest
from sanic import Sanic

from app.config.schema import Config
from app.http.connection import Protocol
from app.http.responses import record_for
from app.process import server
from app.telemetry import log_writer
from tests.server.running import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def begins_and_breaks(request):
    record_for(request, "/breaks")
    await request.stream.begin(HEAD, [], b"data: {}\n\n")
    raise RuntimeError("ours")


async def breaks(request):
    raise RuntimeError("ours")


async def ask(handler=begins_and_breaks, path="/breaks", head=""):
    """All that comes on the connection, to its end."""
    app = server.create_app(Config())
    app.add_route(handler, path, methods=["POST"])
    port = free_port()
    listening = await app.create_server(
        host="127.0.0.1", port=port, return_asyncio_server=True, access_log=False, protocol=Protocol
    )
    await listening.startup()
    await server.create_gateway(app)
    await listening.start_serving()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 2\r\n\r\n{{}}"
        writer.write(lines.encode())
        answer = b""
        with suppress(ConnectionError):
            answer += await reader.readuntil(b"}")
            if handler is begins_and_breaks:
                answer += await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer
    finally:
        listening.close()
        await app.ctx.gateway.close()
        Sanic.unregister_app(app)


@pytest.fixture
def logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_stream_that_breaks_within_us_has_no_end(capfd):
    answer = asyncio.run(ask())
    assert b"200 OK" in answer and b"data: {}" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert "RuntimeError: ours" in capfd.readouterr().err


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize("path", ["/breaks", "/claude/api/breaks/x", "/gemini/breaks/x"])
def test_a_fault_of_ours_is_told_and_logged_as_ours_under_one_id(path, capfd, monkeypatch):
    # Sanic can rewrite its own methods for one application in a process only.
    monkeypatch.setattr("sanic.app.TouchUp.run", lambda app: None)
    answer = asyncio.run(ask(breaks, path))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"500 Internal" in head and b"x-gateway-error: gateway_error" in head
    assert b"x-request-id" in body  # the message says where to look
    found = re.search(rb"x-request-id: ([0-9a-f]{32})\r\n", head)[1].decode()
    log_writer.flush()  # a thread writes the lines
    told = capfd.readouterr()
    assert "RuntimeError: ours" in told.err and found in told.err
    lines = [json.loads(line) for line in told.out.splitlines() if line.startswith("{")]
    line = next(line for line in lines if line.get("request_id") == found)
    assert (line["outcome"], line["status"]) == ("gateway_error", 500)
    assert line["code"] == "gateway_error"
