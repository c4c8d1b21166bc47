"""Answers that end otherwise than well, as the real Codex understands them: once, and for good."""

import json

import pytest

from tests.recorded import recorded
from tests.server.scripted_upstream import gateway as gateway
from tests.server.scripted_upstream import upstream as upstream
from tests.server.test_codex import Codex
from tests.server.test_codex import program as program

pytestmark = pytest.mark.slow

JSON, EVENTS = {"content-type": "application/json"}, {"content-type": "text/event-stream"}
CUT_AT_THE_LIMIT = (
    {"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": [], "usage": {}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Half"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {}},
    {"type": "message_stop"},
)
TOO_LONG = {
    "claude/m": {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 208310 tokens > 200000 maximum",
        },
    },
    "gpt-5": json.loads((recorded("responses") / "error-400-context-length.json").read_bytes()),
    "gemini/m": {
        "error": {
            "code": 400,
            "message": "The input token count (1193047) exceeds the maximum number of tokens "
            "allowed (1048576).",
            "status": "INVALID_ARGUMENT",
        }
    },
}


@pytest.fixture
def codex(program, tmp_path, gateway):
    return Codex(program, tmp_path, gateway.url)


def test_the_token_limit_ends_the_turn_at_once(codex, upstream):
    body = "".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in CUT_AT_THE_LIMIT
    )
    upstream.script([{"status": 200, "headers": EVENTS, "body": body}])
    code, _, events = codex.run("claude/m", "hi")
    assert code != 0 and len(upstream.asked) == 1
    assert any("max_output_tokens" in json.dumps(event) for event in events), events


@pytest.mark.parametrize("model", TOO_LONG)
def test_a_full_context_is_told_as_that(codex, upstream, model):
    upstream.script([{"status": 400, "headers": JSON, "body": TOO_LONG[model]}])
    code, _, events = codex.run(model, "hi")
    assert code != 0 and len(upstream.asked) == 1
    assert any("context window" in json.dumps(event) for event in events), events
