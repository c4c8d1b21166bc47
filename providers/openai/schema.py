"""The few shapes of OpenAI's API that the gateway looks at. Everything else travels as bytes."""

from typing import Any

from msgspec import Struct


class ErrorDetail(Struct):
    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class ErrorEnvelope(Struct):
    error: ErrorDetail


class Conversation(Struct):
    index: str | None = None


class KeyChoice(Struct):
    """What of the body's `openai` member chooses a key."""

    index: str | None = None
    conversation: Conversation | None = None


class ModelList(Struct):
    data: list[dict[str, Any]]
