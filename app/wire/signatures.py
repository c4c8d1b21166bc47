"""Signatures in the gateway's marked form: what an upstream wants back, inside another API's field.

A thought's signature means something to the upstream that made it and to nobody else. Where the
caller's API has a field that comes back unread (a thinking block's `signature`, a call's
`thoughtSignature`, a reasoning item's `encrypted_content`), it carries

    base64("anyproxy1" + kind + ":" + payload)

`kind` is the house: GEMINI (payload: its thoughtSignature), CLAUDE (a JSON list of its thinking
blocks), UNSIGNED (empty: thoughts of an upstream without signatures, in a field that must not be).
The nine letters of the mark are twelve signs of base64, so one search of the bytes for `MARK` finds
every marked form in a body. Marks are not secret: they hold what the caller has seen already, and
a forged one only reaches its own house, which checks it. Protocol sheet: front-messages, 5.5.
"""

import re
from base64 import b64decode, b64encode

GEMINI = "g"
CLAUDE = "c"
UNSIGNED = "t"

MARK = "YW55cHJveHkx"  # base64 of the nine letters, the same in both alphabets
_LETTERS = b"anyproxy1"
_KIND = re.compile(r"([a-z]):(.*)", re.DOTALL)
_STANDARD = str.maketrans("-_", "+/")


def encode(kind: str, payload: str = "") -> str:
    """The marked form of what the house `kind` wants back."""
    return b64encode(b"%b%b:%b" % (_LETTERS, kind.encode(), payload.encode())).decode()


def is_marked(signature: str) -> bool:
    """Whether the signature is the gateway's, of whatever kind, readable or not."""
    return signature.startswith(MARK)


def decode(signature: str) -> tuple[str, str] | None:
    """The kind and the payload of a marked form; None for a foreign signature and a broken mark.

    Takes both alphabets, with padding or without: clients re-encode what they carry.
    """
    if not is_marked(signature):
        return None
    plain = signature.translate(_STANDARD).rstrip("=")
    try:
        held = b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        found = _KIND.fullmatch(held[len(_LETTERS) :].decode())
    except ValueError:  # no base64, or no UTF-8 in it
        return None
    return (found[1], found[2]) if found else None
