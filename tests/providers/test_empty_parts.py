"""A picture, file or sound without content is the caller's mistake, and is told by its place."""

import json
from typing import Any

import pytest

from app.config.schema import Config
from app.wire.errors import GatewayError
from app.wire.provider import Key
from tests.calls import DIRECTORY, asked_of, call_of, request_of

EMPTY = {
    "no data at all": {"type": "image_url", "image_url": {"url": "data:,"}},
    "a type and no data": {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
    "padding alone": {"type": "image_url", "image_url": {"url": "data:image/png;base64,===="}},
    "blanks": {"type": "image_url", "image_url": {"url": "data:image/png;base64,%20"}},
    "no address": {"type": "image_url", "image_url": {"url": ""}},
    "an empty PDF": {
        "type": "file",
        "file": {"file_data": "data:application/pdf;base64,", "filename": "a.pdf"},
    },
    "a nameless file": {"type": "file", "file": {"file_data": ""}},
    "silence": {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
}
ASKED = {
    "gemini": {"model": "gemini/gemini-2.5-flash"},
    "claude": {"model": "claude/claude-sonnet-4-5"},
    "claude web": {"provider": "claude", "claude": {"type": "web"}},
    "chatgpt web": {"provider": "openai-chat-web"},
}


@pytest.mark.parametrize("who", ASKED)
@pytest.mark.parametrize("what", EMPTY)
def test_an_empty_part_is_a_400_that_names_it(who: str, what: str) -> None:
    content: list[Any] = [{"type": "text", "text": "?"}, EMPTY[what]]
    body = json.dumps({"messages": [{"role": "user", "content": content}], **ASKED[who]}).encode()
    read = asked_of(body)
    provider, model, _ = DIRECTORY.choose(read.provider, read.model, read)
    with pytest.raises(GatewayError) as caught:
        call = call_of(
            provider,
            read.body,
            config=Config(),
            key=Key(provider.pool, "1", "a-key"),
            model=model,
            headers={},
            now=1,
        )
        request_of(provider, call)
    assert caught.value.status == 400
    assert (caught.value.param or "").startswith("messages[0].content[1]")
