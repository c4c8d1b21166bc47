"""Whole text so far in, what is new out: for upstreams that send snapshots, not deltas."""


class Snapshot:
    """Remembers how much of a growing text was already told.

    A snapshot that no longer begins with the text told so far (an edit) yields only what follows
    the common length when `strict` is off; told text cannot be taken back.
    """

    def __init__(self) -> None:
        self.text = ""

    def delta(self, text: str) -> str:
        """The new tail, "" when nothing new was said."""
        told = self.text
        if text.startswith(told):
            self.text = text
            return text[len(told) :]
        if len(text) > len(told):
            self.text = text
            return text[len(told) :]
        return ""
