"""A call as one short line for people: `log_format: text`.

    17:04:49.457 200 claude/haiku 1.24 s (first 0.31 s) 12+345 tokens $0.0012 key=k2 id=0088...
    17:04:51.020 429 gpt-4o 0.28 s all_keys_cooling; tried k1: rate limited 429; id=7fa7...

JSON has more. Times are UTC.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.telemetry.call_log import Attempt, CallRecord

_GREEN, _YELLOW, _RED, _PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


def call_line(record: "CallRecord", *, colour: bool = False) -> str:
    """The line, without its end. `colour` marks the status for a terminal."""
    return " ".join(_words(record, colour))


def _words(record: "CallRecord", colour: bool) -> Iterator[str]:
    yield record.time[11:-1]
    yield _coloured(record) if colour else str(record.status)
    model = record.model_asked or record.model
    yield _safe(model) if model else record.route
    if record.model and record.model_asked not in ("", record.model):
        yield f"-> {_safe(f'{record.provider}/{record.model}')}"
    yield f"{record.total_ms / 1000:.2f} s"
    if record.first_event_ms is not None:
        yield f"(first {record.first_event_ms / 1000:.2f} s)"
    if record.prompt_tokens is not None:
        about = "about " if record.counted == "estimated" else ""
        yield f"{about}{record.prompt_tokens}+{record.completion_tokens or 0} tokens"
    if record.cost:
        yield f"${record.cost / 1e9:.6f}".rstrip("0").rstrip(".")
    for name in ("key_id", "token", "address"):
        if text := getattr(record, name):
            yield f"{name.removesuffix('_id')}={_safe(text)}"
    if record.outcome != "complete":
        code = f" ({_safe(record.code)})" if record.code not in ("", record.outcome) else ""
        yield f"{record.outcome}{code};"
    if record.tried:
        yield f"tried {', '.join(map(_attempt, record.tried))};"
    yield f"id={_safe(record.request_id)}"


def _attempt(one: "Attempt") -> str:
    status = f" {one.status}" if one.status else ""
    return f"{_safe(one.key_id or one.provider)}: {one.outcome}{status}"


def _coloured(record: "CallRecord") -> str:
    colour = _GREEN if record.outcome == "complete" and not record.tried else _YELLOW
    if record.status >= 500:
        colour = _RED
    return f"{colour}{record.status}{_PLAIN}"


def _safe(text: str) -> str:
    """Text of a caller or an upstream: quoted where it could be taken for more than one word, or
    change what a terminal shows."""
    if text.isprintable() and not set(' "=') & set(text):
        return text
    return json.dumps(text)
