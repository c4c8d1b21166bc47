"""Content parts of Responses as the neutral ones. Protocol sheet: front-responses, 3.3."""

from collections.abc import Iterator

from msgspec import Raw

from app.fronts.openai_responses.schema import Item, Part, decoded
from app.wire import chat
from app.wire.chat import File, ImageUrl
from app.wire.errors import GatewayError, bad_request
from app.wire.media_types import first_bytes, media_type

_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def parts_of(content: Raw, path: str) -> list[chat.Part]:
    """The parts of a text or a list; empty texts left out. Raises GatewayError 400."""
    return [part for _, part in _placed(content, path)]


def _placed(content: Raw, path: str) -> Iterator[tuple[str, chat.Part]]:
    """The parts with their paths."""
    said: str | list[Part] | None = decoded(content, str | list[Part] | None, path)
    if isinstance(said, str):
        if said:
            yield path, chat.Part("text", text=said)
        return
    for index, each in enumerate(said or ()):
        at = f"{path}[{index}]"
        part = _part(each, at)
        if part.type != "text" or part.text:
            yield at, part


def texts_of(item: Item, path: str) -> list[str]:
    """The texts of a message that is not the user's. Raises GatewayError 400 for anything else."""
    texts = []
    for at, part in _placed(item.content, f"{path}.content"):
        if part.type != "text":
            at = f"{at}.type"
            raise bad_request(f"{at}: messages of the {item.role} hold text only.", at)
        texts.append(part.text or "")
    return texts


def _part(part: Part, path: str) -> chat.Part:
    if part.type in _TEXTS:
        return chat.Part("text", text=part.text or "")
    match part.type:
        case "refusal":
            return chat.Part("text", text=part.refusal or "")
        case "input_image":
            if not part.image_url:
                raise _no_upload(path, "image_url")
            detail = "high" if part.detail == "original" else part.detail
            return chat.Part("image_url", image_url=ImageUrl(part.image_url, detail))
        case "input_file":
            return chat.Part("file", file=_file(part, path))
        case "input_audio" if part.input_audio is not None:
            return chat.Part("input_audio", input_audio=part.input_audio)
    kind = part.type[:64]
    raise bad_request(
        f"{path}.type: a part of type {kind!r} cannot be told this model.", f"{path}.type"
    )


def _file(part: Part, path: str) -> File:
    if part.file_data:
        data = part.file_data
        if not data.startswith("data:"):
            kind = media_type(first_bytes(data), "", part.filename or "")
            data = f"data:{kind or 'application/octet-stream'};base64,{data}"
        return File(file_data=data, filename=part.filename)
    if part.file_url:
        return File(url=part.file_url, filename=part.filename)
    raise _no_upload(path, "file_data")


def _no_upload(path: str, instead: str) -> GatewayError:
    return bad_request(
        f"{path}.file_id: uploads live at OpenAI and work with its own models only; send the "
        f"content as {instead}.",
        f"{path}.file_id",
    )
