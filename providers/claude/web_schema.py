"""The shapes of claude.ai's backend: both stream formats, organizations, conversations, errors.

Source: public clients and captures from 2023 to 2026; nothing of it is documented, unknown members
are ignored.
"""

import re
from typing import Any

from msgspec import Struct

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


class Organization(Struct):
    """An organization of the account; `capabilities` holds "chat" where it may chat."""

    uuid: str = ""
    capabilities: list[str] | None = None


class Created(Struct):
    """A conversation as the site tells it."""

    uuid: str = ""
    name: str | None = None
    summary: str | None = None
    model: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class Uploaded(Struct):
    """The reply to a file upload."""

    file_uuid: str = ""


class WebMessage(Struct):
    """The message at the start of a stream, in the newer format."""

    id: str | None = None
    uuid: str | None = None
    model: str | None = None


class Block(Struct):
    """The start of a content block."""

    type: str = ""
    text: str | None = None


class Summary(Struct):
    """A summary of thinking."""

    summary: str | None = None


class Delta(Struct):
    """A delta of a block or of the message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    summary: Any = None
    stop_reason: str | None = None


class WebError(Struct):
    """An error, in a stream or as a body; `resets_at` is in Unix seconds."""

    type: str | None = None
    message: str | None = None
    details: Any = None
    resets_at: float | None = None


class Frame(Struct):
    """Any event of either format."""

    type: str | None = None
    # the older one
    completion: str | None = None
    stop_reason: str | None = None
    id: str | None = None
    model: str | None = None
    # the newer one
    message: WebMessage | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    # both
    error: WebError | None = None


class ErrorBody(Struct):
    """The body of a refusal. `error` is a WebError, as a rule."""

    error: Any = None


class Exceeded(Struct):
    """What stands as JSON inside the text of a 429."""

    type: str | None = None
    resetsAt: float | None = None
    representativeClaim: str | None = None
    perModelLimit: bool | None = None


# What the caller's `claude` member says, and gets back.


class Conversation(Struct):
    """`claude.conversation`, as the gateway hands it out and takes it back."""

    uuid: str | None = None
    name: str | None = None
    summary: str | None = None
    model: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    parent_message_uuid: str | None = None


class ClaudeMember(Struct):
    """The `claude` member of a chat request."""

    type: str | None = None
    index: str | None = None
    conversation: Conversation | None = None
