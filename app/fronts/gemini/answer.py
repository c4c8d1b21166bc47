"""Events folded into one GenerateContentResponse."""

from typing import Any

from app.fronts.gemini.base import Ending, GeminiRenderer, encode, logprobs_result
from app.wire.errors import bad_response
from app.wire.events import TokenLogprob
from app.wire.front import Answering
from app.wire.provider import Decoder
from app.wire.renderer import JSON


class _Told:
    """What one candidate has said: its thoughts, its text, its calls."""

    def __init__(self) -> None:
        self.thoughts: list[str] = []
        self.texts: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[TokenLogprob] = []

    def candidate(self, index: int, ending: Ending) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        if self.thoughts:
            parts.append({"text": "".join(self.thoughts), "thought": True})
        text = "".join(self.texts)
        if text or not self.calls:
            parts.append({"text": text})
        said: dict[str, Any] = {
            "content": {"role": "model", "parts": parts + self.calls},
            "finishReason": ending.reason,
        }
        if ending.message:
            said["finishMessage"] = ending.message
        if self.logprobs:
            said["logprobsResult"] = logprobs_result(self.logprobs)
        return said | {"index": index}


class WholeAnswer(GeminiRenderer):
    """One answer, sent when it is whole."""

    content_type = JSON

    def __init__(self, answering: Answering, decoder: Decoder) -> None:
        super().__init__(answering, decoder)
        self._left = answering.max_bytes
        self._told: dict[int, _Told] = {}

    def feed(self, data: bytes) -> bytes:
        """Reads a piece of the upstream's answer; nothing is sent before the end."""
        self._left -= len(data)
        if self._left < 0:
            raise bad_response("The upstream's answer is above limits.response_bytes.")
        self.take_all(self.decoder.feed(data))
        return b""

    def finish(self, *, is_cut: bool = False) -> bytes:
        """The whole body. Raises GatewayError 502 for an answer without an ending."""
        endings = self.conclude()
        return encode(
            {
                "candidates": [
                    self._told.get(index, _Told()).candidate(index, ending)
                    for index, ending in endings.items()
                ],
                "usageMetadata": self.counts.metadata(),
                "modelVersion": self.model,
                "responseId": self.id,
            }
        )

    def add(self, index: int, part: dict[str, Any], logprobs: list[TokenLogprob] | None) -> None:
        """One more part; neighbours are joined in the end."""
        told = self._told.setdefault(index, _Told())
        if "functionCall" in part:
            told.calls.append(part)
        elif part.get("thought"):
            told.thoughts.append(part["text"])
        else:
            told.texts.append(part["text"])
        if logprobs is not None:
            told.logprobs += logprobs
