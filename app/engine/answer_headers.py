"""What the headers of an upstream's answer say, to the caller and to the gateway."""

from collections.abc import Mapping

# Answer headers that tell the caller something about this request and nothing about our account.
_PASSED = ("openai-processing-ms", "openai-version")
PASSED_FAMILY = ("x-ratelimit-", "anthropic-ratelimit-", "x-should-retry")


IGNORED, PASSED_ON, REQUEST_ID, TYPE, _ENCODING = range(5)


_SPECIAL = {
    "x-request-id": REQUEST_ID,
    "request-id": REQUEST_ID,
    "content-type": TYPE,
    "content-encoding": _ENCODING,
}
kinds: dict[str, int] = {}  # of names seen before; bounded, for upstreams invent them
_MAX_KINDS = 1024


def is_answer(status: int) -> bool:
    """Whether the status is that of an answer, not of a refusal."""
    return 200 <= status < 300 or status == 101  # 101: a websocket that was opened


def request_id(headers: Mapping[str, str]) -> str:
    """The upstream's own id of the request; "" where it gives none."""
    return headers.get("x-request-id") or headers.get("request-id") or ""


def kind_of(name: str) -> int:
    """What is done with the header of that name; see the numbers above."""
    kind = _SPECIAL.get(name, IGNORED)
    if name in _PASSED or name.startswith(PASSED_FAMILY):
        kind = PASSED_ON
    if len(kinds) < _MAX_KINDS and len(name) <= 64:
        kinds[name] = kind
    return kind
