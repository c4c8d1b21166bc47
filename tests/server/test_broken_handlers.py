"""A fault of ours in the middle of an answer: what was cut must look cut."""

import asyncio
import logging
from contextlib import suppress

import pytest

from app import server
from app.protocol import Protocol
from app.routes.answers import _STREAMED, record_for
from app.wire.settings import Config
from tests.server.running import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def begins_and_breaks(request):
    record_for(request, "/breaks")
    await request.stream.begin(_STREAMED, [], b"data: {}\n\n")
    raise RuntimeError("ours")


async def ask():
    """All that comes on the connection, to its end."""
    app = server.create_app(Config())
    app.add_route(begins_and_breaks, "/breaks", methods=["POST"])
    port = free_port()
    listening = await app.create_server(
        host="127.0.0.1", port=port, return_asyncio_server=True, access_log=False, protocol=Protocol
    )
    await listening.startup()
    await server._open(app)
    await listening.start_serving()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /breaks HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        answer = b""
        with suppress(ConnectionError):
            answer += await reader.readuntil(b"}")
            answer += await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer
    finally:
        listening.close()
        await app.ctx.gateway.close()


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
