"""OpenAI messages as items of Coze's v3 `additional_messages`.

Source: Coze's documentation of POST /v3/chat.
"""

import msgspec

from app.wire.chat import Message, Part
from app.wire.errors import GatewayError, bad_request
from app.wire.provider import Call
from providers.coze import schema


def unsupported_role(i: int, message: Message) -> GatewayError:
    """The error for a message whose role Coze does not have, such as tool."""
    return bad_request(
        f"Coze cannot be given a message of role {message.role!r}; its tools are the bot's own.",
        param=f"messages[{i}].role",
    )


def to_question(call: Call, i: int, message: Message, system: list[str]) -> schema.EnterMessage:
    """A user message with the system texts before it; `i` is its index, for error messages.

    Files become items with the ids in `call.learned`. Raises GatewayError 400 for a message without
    text or file.
    """
    files: list[schema.ObjectItem] = []
    for j, part in enumerate(message.parts()):
        if (item := _object_item(call, i, j, part)) is not None:
            files.append(item)
    text = "\n\n".join(piece for piece in (*system, message.text()) if piece)
    if not files:
        if not message.text():
            raise bad_request("A question must have text.", param=f"messages[{i}].content")
        return schema.EnterMessage("user", "question", text)
    # At most one text item is allowed, and none may be empty.
    items = ([schema.ObjectItem("text", text=text)] if text else []) + files
    content = msgspec.json.encode(items).decode()
    return schema.EnterMessage("user", "question", content, "object_string")


def _object_item(call: Call, i: int, j: int, part: Part) -> schema.ObjectItem | None:
    kind = {"image_url": "image", "file": "file", "input_audio": "audio"}.get(part.type)
    if kind is None:
        if part.type == "text":
            return None
        raise bad_request(
            f"Coze cannot be given a content part of type {part.type!r}.",
            param=f"messages[{i}].content[{j}].type",
        )
    file_id = (call.learned or {}).get((i, j))
    if file_id is None and part.file is not None:
        file_id = part.file.file_id
    if file_id is not None:
        return schema.ObjectItem(kind, file_id=file_id)
    url = part.image_address()
    if not url.startswith(("https://", "http://")):
        raise bad_request(
            "Expected an http(s) address or a data: URL.", param=f"messages[{i}].content[{j}]"
        )
    return schema.ObjectItem(kind, file_url=url)


def check_pictures(messages: list[schema.EnterMessage]) -> None:
    """Raises GatewayError 400 for a picture without a text message next to it.

    Coze would answer code 4000, which names no reason.
    """
    for place, message in enumerate(messages):
        if message.content_type != "object_string" or '"type":"text"' in message.content:
            continue
        beside = messages[max(place - 1, 0) : place] + messages[place + 1 : place + 2]
        if not any(other.content_type == "text" for other in beside):
            raise bad_request(
                "Coze needs a text with a picture: add a text part to the message.",
                param="messages",
            )
