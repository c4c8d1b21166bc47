"""What a stream and a whole completion share."""

from typing import Any

from app.wire.errors import GatewayError
from app.wire.events import (
    End,
    Event,
    Follow,
    Reply,
    Started,
    Unknown,
    Usage,
)
from app.wire.provider import Decoder
from app.wire.stream_start import Stage


class Teller:
    """What Chunks and Completion share: who answers, and what the exchange is asked to do."""

    def __init__(
        self, decoder: Decoder, *, model: str, created: int, new_id: str, stamp: dict[str, Any]
    ) -> None:
        self.decoder = decoder
        self.usage: Usage | None = None
        self.asks: list[Follow | Reply] = []
        self.refused = False
        self.ended = False
        self.error: GatewayError | None = None
        self.unknown: list[str] = []
        self.said = False  # something of the answer itself
        self.model = model
        self.created = created
        self.id = f"chatcmpl-{new_id}"
        self.stamp = stamp
        self.legacy = False  # the caller speaks the older `functions`

    def opening(self, out: bytes) -> Stage:
        return Stage.SAID if self.said else Stage.BEGUN

    def aside(self, event: Event) -> None:
        """Events that put nothing into the answer."""
        match event:
            case Usage():
                self.usage = event
            case Follow() | Reply():
                self.asks.append(event)
            case End():
                self.ended = True
            case Unknown():
                self.unknown.append(event.name)

    def begin(self, event: Started) -> None:
        self.id = event.id or self.id
        self.model = event.model or self.model
        self.legacy = event.legacy_functions

    def continues(self, fields: dict[str, Any]) -> None:
        # The provider's own object holds the session: {"claude": {..., "conversation": {...}}}.
        for own in self.stamp.values():
            own.update(fields)

    def usage_object(self) -> Any:
        usage = self.usage or Usage()
        if usage.raw is not None:
            return usage.raw
        total = usage.total_tokens
        prompt_details: dict[str, int] = {"cached_tokens": usage.cached_tokens}
        if usage.cache_write_tokens is not None:
            prompt_details["cache_write_tokens"] = usage.cache_write_tokens
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens
            if total is None
            else total,
            "prompt_tokens_details": prompt_details,
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }
