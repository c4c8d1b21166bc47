"""Retry-After: parses an upstream's headers, and gives the value for the gateway's own.

Headers may hold anything. Pure: without `now`, a date counts from the response's own `date`.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil

MOST_SECONDS = 1800

_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)
_SPAN = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d+)?)s)?(?:(\d{1,9})ms)?")
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,9}(?:\.\d{1,9})?)s"')


def whole_seconds(seconds: float, most: float = MOST_SECONDS) -> int:
    """The value of the gateway's own Retry-After header: 1 to `most`."""
    return ceil(min(max(seconds, 1.0), most))


def retry_after_header(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Returns the seconds of Retry-After or retry-after-ms; None if missing or invalid."""
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if (seconds := number(text)) is not None:
        return seconds  # Azure sends 0 ms beside a whole second: the larger one is meant
    if (then := date(text)) is not None:
        # Counted from the upstream's clock if it is known: ours may differ.
        from_then = date(headers.get("date")) or now
        if from_then is not None:
            return max(then - from_then, 0.0)
    return milliseconds


def retry_after(headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """Returns the seconds of Retry-After, of Google's `retryDelay` or OpenAI's rate limit headers.

    `now` is Unix seconds. None if there are none.
    """
    if (seconds := retry_after_header(headers, now)) is not None:
        return seconds
    if delay := _RETRY_DELAY.search(body):
        return float(delay[1])
    spent = [
        reset
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
        and (reset := _span(headers.get(f"x-ratelimit-reset-{what}"))) is not None
    ]
    return max(spent, default=None)


def number(text: str | None) -> float | None:
    """Parses a decimal number; None for anything else."""
    # Digits only: float() takes "nan", "inf", "1e12" and "1_0".
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def date(text: str | None) -> float | None:
    """Parses an HTTP date or an ISO one to Unix seconds; None for anything else."""
    if not text or len(text) > 64:
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, TypeError, IndexError, OverflowError):
            found = read(text)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return None


def _span(text: str | None) -> float | None:
    """Parses OpenAI's durations (`1s`, `6m0s`, `20ms`) to seconds."""
    found = _SPAN.fullmatch((text or "").strip())
    if not found or not found[0]:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
