"""Calls and decoders as the Gemini tests need them, with ids that can be foreseen."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.config.schema import Config
from app.wire.events import Event
from app.wire.provider import Call, Key, Provider
from providers.gemini.answer import AnswerDecoder
from providers.gemini.api import POOL, PROVIDER
from providers.gemini.signatures import Signatures
from tests.calls import call_of, without_native_words

HERE = Path(__file__).parent
RECORDED = HERE.parents[1] / "recorded" / "gemini"
CALLERS = Key(POOL, "", "AIzaCallersOwn")


def counted_ids() -> Callable[[], str]:
    count = iter(range(1, 1000))
    return lambda: f"{next(count):024x}{0:08x}"


def make_call(
    body: Mapping[str, Any] | bytes,
    *,
    provider: Provider = PROVIDER,
    key: Key = CALLERS,
    headers: Mapping[str, str] | None = None,
    config: Config | None = None,
    model: str | None = None,
    learned: Any = None,
    native: bool | None = None,
) -> Call:
    return call_of(
        provider,
        body,
        native=native,
        config=config,
        key=key,
        model=model,
        headers=headers,
        now=1_700_000_000,
        new_id=counted_ids(),
        learned=learned,
    )


def user(text: str = "Hi", **more: Any) -> dict[str, Any]:
    """The smallest chat, and what is asked of it."""
    return {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": text}], **more}


def sent(body: Mapping[str, Any], **more: Any) -> Any:
    """The JSON that goes upstream for an OpenAI body."""
    return json.loads(PROVIDER.request(make_call(body, **more)).body)  # type: ignore[arg-type]


def make_decoder(*, stream: bool = True, signatures: Signatures | None = None) -> AnswerDecoder:
    return AnswerDecoder(
        model="asked-model",
        new_id=counted_ids(),
        stream=stream,
        signatures=Signatures() if signatures is None else signatures,
    )


def decode(*pieces: bytes, stream: bool = True) -> list[Event]:
    decoder = make_decoder(stream=stream)
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    return without_native_words(events + decoder.finish())


def sse(*objects: Any) -> bytes:
    """Objects framed as Google frames them."""
    return b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in objects)


def chunk(
    *parts: Mapping[str, Any], finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": index}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "R", "modelVersion": "gemini-2.5-flash"} | more
