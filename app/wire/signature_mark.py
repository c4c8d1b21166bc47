"""The gateway's own signatures: what an upstream wants back, carried by a caller of another API.

Callers hand the signature of a thought back byte for byte. So what has no place in their API
travels as one: base64 of `anyproxy1`, a kind, `:` and the payload. Nine bytes are twelve base64
signs, so every mark begins alike and a body is known to hold none by one search.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Literal, get_args

# g: Gemini's thoughtSignature, as it came. t: a thought of an upstream without signatures, with its
# text where nothing else carries that. c: Claude's thinking blocks, as JSON. s: a summary of the
# conversation. o: a reasoning item of OpenAI's, as JSON.
Kind = Literal["g", "t", "c", "s", "o"]
START = "YW55cHJveHkx"
_PLAIN = b"anyproxy1"
_KINDS = get_args(Kind)


def mark(kind: Kind, payload: str = "") -> str:
    """The signature that carries `payload`."""
    return b64encode(_PLAIN + f"{kind}:{payload}".encode()).decode()


def read_mark(signature: str) -> tuple[Kind, str] | None:
    """Kind and payload; None for a signature that is not ours, or not whole.

    Some clients hand it back in base64's other alphabet, or without its padding.
    """
    if not signature.startswith(START):
        return None
    plain = signature.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        kind, colon, payload = data[len(_PLAIN) :].decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    if not colon or kind not in _KINDS:
        return None
    return kind, payload  # type: ignore[return-value]
