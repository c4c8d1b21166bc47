"""An OpenAI chat request as a generateContent body, and a native body made ready to send.

Pure: the same request gives the same bytes. The parts of the body come from `conversation`,
`functions` and `parameters`. Source: Google's Gemini API reference.
"""

import msgspec

from app.wire.asked import Asked
from app.wire.chat import ChatRequest, not_json
from app.wire.errors import from_validation
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
    if chat.extras_wire in ("openai-chat", "openai-responses"):
        known = {n: chat.extras[n] for n in Extras.__struct_fields__ if n in chat.extras}
    values = {name: getattr(chat, name) for name in ChatRequest.__struct_fields__}
    try:
        google = _read_extras(msgspec.json.encode(known)) if known else Extras()
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except JSON_ERRORS as error:
        raise not_json(asked.body, error) from None
    return Chat(**values, google=google, wanted=_wanted(chat, asked))


def _wanted(chat: ChatRequest, asked: Asked) -> ResponseFormat | None:
    if chat.response_format is None:
        return None
    try:
        return _format.decode(msgspec.json.encode(chat.response_format))
    except msgspec.ValidationError as error:
        wrong = from_validation(error)
        wrong.param = f"response_format.{wrong.param}" if wrong.param else "response_format"
        raise wrong from None
    except JSON_ERRORS as error:
        raise not_json(asked.body, error) from None


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
