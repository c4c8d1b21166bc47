"""The few shapes of OpenAI's API that the gateway looks at. Everything else travels as bytes."""

from msgspec import Struct


class Conversation(Struct):
    """`openai.conversation`, as ChatGPT web hands it out."""

    index: str | None = None


class KeyChoice(Struct):
    """What of the body's `openai` member chooses a key."""

    index: str | None = None
    conversation: Conversation | None = None
