"""Whole text so far in, what is new out: for upstreams that send snapshots, not deltas."""


class Snapshot:
    """Remembers what of a growing text was already told.

    Told text cannot be taken back. While a snapshot is no extension of it (the upstream edits), say
    nothing: the next one may be an extension again. `last()` takes the final text, of which
    everything after the part in common is then told.
    """

    def __init__(self) -> None:
        self.text = ""

    def delta(self, text: str) -> str:
        """The new tail, "" when nothing new was said or the text was edited."""
        told = self.text
        text = text.removesuffix("\ufffd")  # half a character: the next snapshot has all of it
        if not text.startswith(told):
            return ""
        self.text = text
        return text[len(told) :]

    def last(self, text: str) -> str:
        """What of the final text was not told yet."""
        told = self.text
        if told.startswith(text):
            return ""
        self.text = text
        if text.startswith(told):
            return text[len(told) :]
        common = 0
        for left, right in zip(told, text, strict=False):
            if left != right:
                break
            common += 1
        return text[common:]
