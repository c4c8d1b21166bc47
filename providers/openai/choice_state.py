"""What a decoder knows of one choice: its tool calls, how it ended, what is held back."""

from providers.openai.parts import ToolPart
from providers.openai.reasoning_details import ReasoningDetails
from providers.openai.think_tags import ThinkTags


class Slot:
    """One tool call being put together. Arguments that come before the name wait for it."""

    __slots__ = ("id", "name", "number", "pieces", "signature")

    def __init__(self) -> None:
        self.id = ""  # the upstream's, "" as long as it gave none
        self.number = 0  # among those that have a name: the others are never told
        self.name = ""
        self.signature: str | None = None
        self.pieces: list[str] = []  # of the arguments


class ChoiceState:
    """What is known of one choice so far."""

    __slots__ = (
        "_by_index",
        "_last",
        "details",
        "has_said",
        "reason",
        "signature",
        "slots",
        "stop_sequence",
        "tags",
    )

    def __init__(self, tags: ThinkTags | None) -> None:
        self.slots: list[Slot] = []
        self._by_index: dict[int, Slot] = {}
        self._last: Slot | None = None
        self.reason = ""
        self.stop_sequence: str | None = None
        self.has_said = False
        self.tags = tags  # None: text is told as it comes
        self.details: ReasoningDetails | None = None
        self.signature: str | None = None  # of the message, for its first call or its text

    def slot_of(self, part: ToolPart, *, is_whole: bool) -> Slot:
        """The call that a part belongs to: in a whole answer each is one of its own.

        By index, else by id; without either, a name begins a call and anything else goes on with
        the last. Another id is another call, whatever the index (Ollama).
        """
        name = (part.function.name if part.function is not None else None) or ""
        found = None if is_whole else self._begun(part, name)
        if found is not None and part.id and part.id != found.id:
            # An id may come late, but then without the name of another call.
            found = None if found.id or (found.name and name) else found
        if found is None:
            found = Slot()
            self.slots.append(found)
        found.id = found.id or part.id or ""
        if part.index is not None:
            self._by_index[part.index] = found
        self._last = found
        return found

    def _begun(self, part: ToolPart, name: str) -> Slot | None:
        last = self._last
        if part.index is not None:
            return self._by_index.get(part.index)
        if part.id:
            same = (slot for slot in self.slots if slot.id == part.id)
            return next(same, None if last is None or last.id else last)
        return None if name and last is not None and last.name else last
