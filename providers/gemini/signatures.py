"""Thought signatures for clients that cannot carry them.

Gemini 3 refuses a tool result unless the call before it carries the `thoughtSignature` it came
with. Every tool call hands it out as `extra_content` and takes it back from there, which needs no
memory and works across workers and restarts. Clients that rebuild their messages lose that member;
for them each worker remembers the last few thousand signatures by call id. Where both fail (other
worker, restart) the placeholder that Google documents stands in.

A signature cannot travel inside the call id: recorded ones are 200 to 1,500 characters long and
clients store ids in columns of 40 to 64.
"""

from collections import OrderedDict

# Documented by Google for calls whose signature is not known (from another model, say).
PLACEHOLDER = "skip_thought_signature_validator"


class Signatures:
    """An LRU cache of signatures, bounded in entries and in characters."""

    def __init__(self, max_entries: int = 4096, max_chars: int = 16 * 1024 * 1024) -> None:
        self._held: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._max_entries, self._max_chars = max_entries, max_chars
        self._chars = 0

    def remember(self, call_id: str, name: str, signature: str) -> None:
        """Stores the signature of a call."""
        # The name is part of the key: ids that Gemini itself gives need not be unique over all
        # callers, and a signature on the wrong function would only be refused.
        held = self._held
        self._chars += len(signature) - len(held.pop((call_id, name), ""))
        held[call_id, name] = signature
        while len(held) > self._max_entries or self._chars > self._max_chars:
            _, forgotten = held.popitem(last=False)
            self._chars -= len(forgotten)

    def recall(self, call_id: str, name: str) -> str | None:
        """The signature of a call; None for one that is not known."""
        signature = self._held.get((call_id, name))
        if signature is not None:
            self._held.move_to_end((call_id, name))
        return signature

    def __len__(self) -> int:
        return len(self._held)


REMEMBERED = Signatures()
