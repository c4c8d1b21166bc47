"""Ids of tool calls for APIs that allow few signs in them: `A-Z a-z 0-9 _ -`, at most 64.

An id of another house (`functions.read:0`) becomes `hx_` and its bytes in hex, which is undone when
it comes back: the upstream sees the id it gave, and nothing has to be remembered. One that would be
longer than 64 signs that way becomes a hash, which cannot be undone and need not be: the call and
its result both carry it. Protocol sheets: openai-compatible, 7; front-messages, 5.6.
"""

import re
from hashlib import sha256

from app.wire.chat import ChatRequest

_LEGAL = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_PREFIX = "hx_"
_HEX = re.compile(r"hx_((?:[0-9a-f]{2})+)").fullmatch
_MAX = 64


def legal(call_id: str) -> str:
    """The id with nothing but allowed signs; "" stays as it is."""
    if not call_id or (_LEGAL(call_id) and not _HEX(call_id)):
        return call_id
    raw = call_id.encode("utf-8", "surrogatepass")
    if len(_PREFIX) + 2 * len(raw) <= _MAX:
        return _PREFIX + raw.hex()
    return _PREFIX + sha256(raw).hexdigest()[:41]  # an odd number of digits: never undone


def original(call_id: str) -> str:
    """The id as the upstream gave it, of one that `legal` made; any other as it is."""
    found = _HEX(call_id)
    if found is None:
        return call_id
    try:
        return bytes.fromhex(found[1]).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return call_id


class TakenIds:
    """The ids that a call of the answer cannot have: clients take a repeated one for one call.

    They are those of the conversation's calls, looked up at the first call, and of the answer's own
    so far. Ids below `shortest` signs (`call_0`) are none that a conversation can do with.
    """

    def __init__(self, chat: ChatRequest | None, shortest: int = 1) -> None:
        self._chat, self._shortest = chat, shortest
        self._ids: set[str] | None = None

    def take(self, given: str, told: str, other: str) -> str:
        """`told`, which says the upstream's id `given`, where it is legal and new; else `other`."""
        if self._ids is None:
            messages = self._chat.messages if self._chat is not None else []
            calls = [call for message in messages for call in message.tool_calls or ()]
            self._ids = {original(call.id) for call in calls if call.id}
        is_new = given not in self._ids
        self._ids.add(given)
        return told if is_new and len(told) >= self._shortest and _LEGAL(told) else other
