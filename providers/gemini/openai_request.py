"""The typed form of an OpenAI chat request that is meant for Gemini.

Members whose value is only passed on stay bytes (`Raw`), so that numbers keep every digit.
Source of the extensions: Google's documentation of its OpenAI-compatible API.
"""

from msgspec import UNSET, Raw, Struct, UnsetType

from app.wire.chat import ChatRequest


class GoogleExtras(Struct):
    """Gemini's own settings inside an OpenAI body, named as Google's OpenAI layer names them."""

    safety_settings: list[Raw] | None = None
    generation_config: dict[str, Raw] | None = None
    thinking_config: dict[str, Raw] | None = None
    cached_content: str | None = None


class ExtraBody(Struct):
    """`extra_body`, as OpenAI's Python SDK is told to send further members."""

    google: GoogleExtras | None = None


class JsonSchema(Struct):
    """The `json_schema` member of `response_format`; its name and strictness have no use here."""

    schema: dict[str, Raw] | None = None


class ResponseFormat(Struct):
    """`response_format`: `type` is text, json_object or json_schema."""

    type: str | None = None
    json_schema: JsonSchema | None = None


class Extras(Struct, frozen=True):
    """Google's extensions of OpenAI's request.

    The members from `audio` on are read only to be refused or named as dropped.
    """

    safety_settings: list[Raw] | None = None
    generation_config: dict[str, Raw] | None = None
    thinking_config: dict[str, Raw] | None = None
    cached_content: str | None = None
    extra_body: ExtraBody | None = None
    audio: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    moderation: Raw | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    prompt_cache_key: Raw | UnsetType = UNSET
    prompt_cache_options: Raw | UnsetType = UNSET
    prompt_cache_retention: Raw | UnsetType = UNSET
    service_tier: Raw | UnsetType = UNSET
    store: Raw | UnsetType = UNSET
    verbosity: Raw | UnsetType = UNSET
    web_search_options: Raw | UnsetType = UNSET


class Chat(ChatRequest, kw_only=True):
    """The neutral request with Google's extensions, and `response_format` typed as `wanted`."""

    google: Extras = Extras()
    wanted: ResponseFormat | None = None
