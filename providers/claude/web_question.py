"""What a chat request asks claude.ai: one prompt with files and pasted texts.

Source: public clients and captures of claude.ai.
"""

import re
from base64 import b64decode
from typing import Any

import msgspec
from msgspec import Struct

from app.wire.chat import ChatRequest, Message, Part
from app.wire.errors import bad_request
from app.wire.image_bytes import Picture, read_picture
from providers.claude import attachments
from providers.claude.schema import Base64Source, ImageBlock, TextSource
from providers.claude.web_schema import Conversation

PASTED_ABOVE = 30_000  # characters; a longer history goes along as an attached text
_NOT_IN_A_NAME = re.compile(r"[^\w .()\[\]+-]")


class Document(Struct, frozen=True):
    """A file that is uploaded unchanged."""

    media_type: str
    data: bytes
    title: str

    def name(self, number: int) -> str:
        """The file name to upload it under; `number` counts the files of a question."""
        return self.title or f"file-{number}.pdf"


class Enclosed(Struct):
    """What comes with a prompt: files to upload, and texts sent as pasted attachments."""

    files: list[Picture | Document] = []
    texts: list[dict[str, Any]] = []


class WebQuestion(Struct):
    """What the caller asks, read once however many sessions are tried."""

    conversation: Conversation
    prompt: str
    pasted: str  # a long history, "" when the prompt holds all
    enclosed: Enclosed
    model: str | None
    thinks: bool
    dropped: list[str]


DROPPED = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
    "modalities",
)
_SPEAKERS = {"assistant": "Assistant", "tool": "Tool", "function": "Tool"}


def refuse_unsupported(chat: ChatRequest) -> None:
    """Raises GatewayError 400 for a parameter that the site cannot honour nor leave out."""
    unsayable = {
        "tools": bool(chat.tools) and chat.tool_choice != "none",
        "functions": bool(chat.functions) and chat.function_call != "none",
        "tool_choice": chat.tool_choice not in (None, "none", "auto"),
        "function_call": chat.function_call not in (None, "none", "auto"),
        "n": chat.n not in (None, 1),
    }
    for param, present in unsayable.items():
        if present:
            raise bad_request(
                f"claude.ai's web backend has no counterpart for {param}; leave it out, or use "
                'Claude\'s API (claude.type "api").',
                param=param,
                code="unsupported_parameter",
            )


def json_wish(response_format: dict[str, Any]) -> str:
    """The sentence that asks for JSON, as the site has no such parameter."""
    held = response_format.get("json_schema")
    schema = held.get("schema") if isinstance(held, dict) else None
    if schema is None:
        return "Answer with one JSON object and nothing else."
    text = msgspec.json.encode(schema).decode()
    return f"Answer with one JSON object of this JSON schema and nothing else: {text}"


def to_prompt(messages: list[Message], continued: bool) -> tuple[str, str, Enclosed]:
    """The prompt, the history to attach ("" when the prompt holds it), pictures and files.

    Raises GatewayError 400 when there is nothing new to send.
    """
    first = 0
    if continued:
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        first = answers[-1] + 1 if answers else 0
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    enclosed = Enclosed()
    for i, message in enumerate(messages[first:], first):
        text = _text(message, f"messages[{i}]", enclosed)
        if message.role in ("system", "developer"):
            answered = continued or any(role == "assistant" for role, _ in turns)
            if message.keeps_place and answered and text:
                turns.append(("user", message.reminder()))
            elif not continued and text:  # a continued conversation has had it
                system.append(text)
        elif text:
            turns.append((message.role, text))
    if not enclosed.files and not enclosed.texts and not any(role == "user" for role, _ in turns):
        raise bad_request("There is no message of the user to send.", param="messages")
    if continued or len(turns) <= 1:
        return "\n\n".join([*system, *(text for _, text in turns)]), "", enclosed
    said = [f"{_SPEAKERS.get(role, 'Human')}: {text}" for role, text in turns]
    whole = "\n\n".join([*system, *said])
    if len(whole) <= PASTED_ABOVE or turns[-1][0] != "user":
        return whole, "", enclosed
    return turns[-1][1], "\n\n".join([*system, *said[:-1]]), enclosed


def _text(message: Message, at: str, enclosed: Enclosed) -> str:
    texts = []
    for j, part in enumerate(message.parts()):
        where = f"{at}.content[{j}]"
        match part.type:
            case "text" | "input_text":
                texts.append(part.text or "")
            case "refusal":
                texts.append(part.refusal or "")
            case "image_url":
                enclosed.files.append(read_picture(part, f"{where}.image_url"))
            case "file":
                _enclose(part, f"{where}.file", enclosed)
            case _:
                raise bad_request(
                    f"claude.ai takes text, images and files; a part of type {part.type[:40]!r} "
                    "cannot be sent.",
                    param=where,
                    code="unsupported_content",
                )
    for call in message.tool_calls or []:
        if call.function is not None:
            texts.append(f"[called {call.function.name}({call.function.arguments or ''})]")
    if message.is_error:
        return message.result()
    return "\n\n".join(text for text in texts if text)


def _enclose(part: Part, at: str, enclosed: Enclosed) -> None:
    """Adds a file: a PDF or image to be uploaded, a text as if it had been pasted."""
    found = attachments.document(part.file, at)
    if isinstance(found, ImageBlock):
        assert isinstance(found.source, Base64Source), "a file has no address"
        url = f"data:;base64,{found.source.data}"
        enclosed.files.append(read_picture(Part("image_url", image_url=url), f"{at}.file_data"))
        return
    title = _NOT_IN_A_NAME.sub("_", found.title or "")[:100]
    source = found.source
    if isinstance(source, TextSource):
        enclosed.texts.append(pasted_text(source.data, title or "paste.txt"))
        return
    assert isinstance(source, Base64Source), "a file has no address"
    try:
        data = b64decode(source.data, validate=True)
    except ValueError:
        raise bad_request("The file's base64 is broken.", param=f"{at}.file_data") from None
    enclosed.files.append(Document(source.media_type, data, title))


def pasted_text(text: str, name: str) -> dict[str, Any]:
    """A text as the site attaches one that was pasted."""
    return {
        "file_name": name,
        "file_type": name.rpartition(".")[2] if "." in name else "txt",
        "file_size": len(text.encode()),
        "extracted_content": text,
    }
