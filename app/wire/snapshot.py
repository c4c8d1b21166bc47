"""Turns snapshots of a growing text into deltas, for upstreams that send the whole text so far."""


class Snapshot:
    """Remembers which part of a growing text was already returned.

    Text that was sent cannot be taken back. While a snapshot does not extend it (the upstream edits
    its answer) nothing is returned: a later one may extend it again. `last()` takes the final text
    and returns all after the part in common.
    """

    def __init__(self) -> None:
        self.text = ""

    def delta(self, text: str) -> str:
        """Returns the new part of the text; "" if there is none, or the text was edited."""
        sent = self.text
        text = text.removesuffix("\ufffd")  # half a character: the next snapshot has all of it
        if not text.startswith(sent):
            return ""
        self.text = text
        return text[len(sent) :]

    def last(self, text: str) -> str:
        """Returns the part of the final text that was not returned yet."""
        sent = self.text
        if sent.startswith(text):
            return ""
        self.text = text
        if text.startswith(sent):
            return text[len(sent) :]
        common = 0
        for left, right in zip(sent, text, strict=False):
            if left != right:
                break
            common += 1
        return text[common:]
