"""An OpenAI chat request as a generateContent body, and a native body made ready to send.

Pure: the same request gives the same bytes. The parts of the body come from `conversation`,
`functions` and `parameters`. Source: Google's Gemini API reference.
"""

from typing import Any

import msgspec
from msgspec import Raw

from app.wire.asked import Asked
from app.wire.chat import ChatRequest, not_json, read_members
from app.wire.errors import GatewayError, bad_request, from_validation
from providers.gemini.conversation import Conversation
from providers.gemini.functions import (
    function_declarations,
    function_names,
    tool_config,
    tool_lists,
)
from providers.gemini.media import Learned
from providers.gemini.models import Model
from providers.gemini.openai_request import Chat, Extras, ResponseFormat
from providers.gemini.parameters import dropped_parameters, generation_config, google_extras
from providers.gemini.raw_json import JSON_ERRORS, encode
from providers.gemini.schema import GenerateContentRequest, RequestContent
from providers.gemini.signatures import REMEMBERED, Signatures

_read_extras = msgspec.json.Decoder(Extras).decode
_format = msgspec.json.Decoder(ResponseFormat)


def read(chat: ChatRequest, asked: Asked) -> Chat:
    """The request with what Google's OpenAI layer knows besides.

    Raises GatewayError 400 naming the member that is wrong.
    """
    known = {}
    if chat.extras_wire == "openai-chat":
        known = {n: chat.extras[n] for n in Extras.__struct_fields__ if n in chat.extras}
    values = {name: getattr(chat, name) for name in ChatRequest.__struct_fields__}
    try:
        google = _read_extras(msgspec.json.encode(known)) if known else Extras()
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except JSON_ERRORS as error:
        raise not_json(asked.body, error) from None
    return Chat(**values, google=google, wanted=_wanted(chat))


def _wanted(chat: ChatRequest) -> ResponseFormat | None:
    if chat.response_format is None:
        return None
    try:
        return _format.decode(msgspec.json.encode(chat.response_format))
    except msgspec.ValidationError as error:
        wrong = from_validation(error)
        wrong.param = f"response_format.{wrong.param}" if wrong.param else "response_format"
        raise wrong from None


def to_generate_content(
    chat: Chat, model: Model, learned: Learned, signatures: Signatures = REMEMBERED
) -> tuple[bytes, list[str]]:
    """Translates a chat request; returns the body and the names of the dropped parameters.

    `learned` holds the images that were fetched for models that take no URLs. Raises GatewayError
    400 for what Gemini cannot be asked.
    """
    names = function_names(chat)
    dropped = dropped_parameters(chat)
    contents, system = Conversation(model, names, learned, signatures).read(chat.messages)
    tools = function_declarations(chat, names)
    extras = google_extras(chat)
    request = GenerateContentRequest(
        contents=contents,
        system_instruction=RequestContent(system) if system else None,
        tools=tool_lists(chat, model, tools, dropped) or None,
        tool_config=tool_config(chat, tools, names),
        generation_config=generation_config(chat, model, extras, dropped),
        safety_settings=extras.safety_settings,
        cached_content=extras.cached_content,
    )
    return encode(request), dropped


# Native bodies

_NOT_NATIVE = ("model", "stream", "stream_options")


def read_native(asked: Asked) -> dict[str, Raw]:
    """A generateContent body with the gateway's members taken out, values untouched."""
    body = asked.body
    members = read_members(body)
    try:
        body.decode()  # values that are only passed on have not been looked at
    except UnicodeDecodeError as error:
        raise not_json(body, error) from None
    native = {
        name: raw for name, raw in members.items() if name not in (*asked.own_names, *_NOT_NATIVE)
    }
    if "contents" not in native:
        raise bad_request(
            "A generateContent body needs `contents`; OpenAI bodies belong to"
            " /c/v1/chat/completions.",
            "contents",
        )
    for name in ("systemInstruction", "system_instruction"):
        if name in native:
            native[name] = _folded(native[name], name)
    return native


def native_body(members: dict[str, Raw]) -> bytes:
    """The JSON of a native body that `read_native` has read."""
    return encode(members)


def _folded(raw: Raw, name: str) -> Raw:
    """A system instruction as one Content; text and arrays of contents are folded into one.

    Arrays are taken because the Go predecessor of this gateway demanded them.
    """
    given = bytes(raw)
    if given[:1] not in (b'"', b"["):
        return raw
    try:
        decoded = msgspec.json.decode(given, type=str | list[str | dict[str, Raw]])
    except JSON_ERRORS as error:
        raise _not_an_instruction(name, error) from None
    parts: list[Any] = []
    for one in [decoded] if isinstance(decoded, str) else decoded:
        if isinstance(one, str):
            parts.append({"text": one})
        elif "parts" in one:
            try:
                parts += msgspec.json.decode(one["parts"], type=list[Raw])
            except JSON_ERRORS as error:
                raise _not_an_instruction(name, error) from None
        else:
            parts.append(one)
    return Raw(encode({"parts": parts}))


def _not_an_instruction(name: str, error: Exception) -> GatewayError:
    return bad_request(f"{name} must be a Content, text or an array of them: {error}.", name)
