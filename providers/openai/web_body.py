"""The JSON body of a question to ChatGPT's website.

Source: public clients of chatgpt.com.
"""

import uuid
from typing import Any

from app.wire.provider import Call
from providers.openai.web_prepare import Ready
from providers.openai.web_question import WebQuestion


def question_body(call: Call, ask: WebQuestion, ready: Ready) -> dict[str, Any]:
    """The body of POST /backend-api/conversation: the caller's own, or one made of the prompt."""
    defaults: dict[str, Any] = {
        "action": "next",
        "parent_message_id": ready.parent_id,
        "model": call.model or "auto",
        "timezone_offset_min": 0,
        "suggestions": [],
        "history_and_training_disabled": False,
        "conversation_mode": {"kind": "primary_assistant"},
        "force_paragen": False,
        "force_paragen_model_slug": "",
        "force_nulligen": False,
        "force_rate_limit": False,
        "force_use_sse": True,
        "websocket_request_id": str(uuid.UUID(hex=call.new_id())),
    }
    if ask.native is not None:
        given = dict(ask.native)
        if not ask.state.conversation_id:
            given.pop("conversation_id", None)  # absent for a new one, not null, not ""
        return {**defaults, **given}
    if ready.conversation_id:
        defaults["conversation_id"] = ready.conversation_id
    message: dict[str, Any] = {
        "id": ready.message_id,
        "author": {"role": "user"},
        "content": {"content_type": "text", "parts": [ask.prompt]},
        "metadata": {},
    }
    if ready.files:
        _attach(message, ask, ready.files)
    return {**defaults, "messages": [message]}


def _attach(message: dict[str, Any], ask: WebQuestion, files: list[str]) -> None:
    """Puts the uploaded pictures, `files` by id, before the text of the message."""
    pictures = list(zip(files, ask.pictures, strict=True))
    pointers = [
        {
            "content_type": "image_asset_pointer",
            "asset_pointer": f"file-service://{file}"
            if file.startswith("file-")
            else f"sediment://{file}",
            "size_bytes": len(picture.data),
            "width": picture.width,
            "height": picture.height,
        }
        for file, picture in pictures
    ]
    message["content"] = {
        "content_type": "multimodal_text",
        "parts": [*pointers, *([ask.prompt] if ask.prompt else [])],
    }
    message["metadata"] = {
        "attachments": [
            {
                "id": file,
                "name": picture.name(n),
                "size": len(picture.data),
                "mime_type": picture.media_type,
                "width": picture.width,
                "height": picture.height,
            }
            for n, (file, picture) in enumerate(pictures, 1)
        ]
    }
