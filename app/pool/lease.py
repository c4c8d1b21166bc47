"""One attempt with one key, and how keys stand."""

import random

from msgspec import Struct

from app.state.rate_windows import Limits
from app.state.shared_table import (
    FIELDS,
    ROWS,
)
from app.wire.errors import GatewayError
from app.wire.provider import Key

NO_ROW = ROWS * FIELDS  # a row behind the last, which nobody writes: it never rests


class Entry:
    """One key and where its row begins."""

    __slots__ = ("base", "key", "limits", "name", "row")

    def __init__(self, key: Key, name: str, row: int, limits: Limits | None) -> None:
        self.key, self.name, self.limits = key, name, limits
        self.row = row if row >= 0 else ROWS
        self.base = self.row * FIELDS


class Group:
    """One pool: the keys of one upstream, and the upstream's own row."""

    __slots__ = ("base", "by_id", "deck", "entries", "name")

    def __init__(self, name: str, row: int) -> None:
        self.name = name
        self.base = (row if row >= 0 else ROWS) * FIELDS
        self.entries: list[Entry] = []
        self.by_id: dict[str, Entry] = {}
        self.deck: list[Entry] = []

    def draw(self) -> Entry:
        """One key at random; none twice before each was drawn, so that few calls are shared evenly
        as well."""
        if not self.deck:
            self.deck = self.entries.copy()
            random.shuffle(self.deck)
        return self.deck.pop()


class Lease:
    """One attempt with one key: `report` how it went, then `release` it, always."""

    __slots__ = ("asked", "at", "call", "claims", "entry", "group", "guess", "key", "model", "open")

    def __init__(
        self,
        key: Key,
        group: Group | None = None,
        entry: Entry | None = None,
        model: str = "",
        call: float = 0.0,
        at: float = 0.0,
        guess: int = 0,
    ) -> None:
        self.key, self.group, self.entry = key, group, entry
        self.model, self.call, self.at = model, call, at
        self.claims: tuple[int, ...] = ()  # bases of the rows whose probe this is
        self.guess = guess  # tokens, as counted before the call
        self.asked = False  # the upstream has heard of it
        self.open = False  # it is counted as an open call of the key

    @property
    def probes_upstream(self) -> bool:
        return self.group is not None and self.group.base in self.claims


class KeysBusy(GatewayError):
    """Every key that could answer has as many calls open as it may: worth a short wait."""


class KeysTried(GatewayError):
    """Every key that could answer has been tried in this call."""


NOBODY = Key("", "", "")


class KeyStatus(Struct):
    """One key as its operator sees it. `state`: awake, resting, due, probing or disabled."""

    pool: str
    id: str
    state: str
    why: str
    until: float
    models: int  # 1 when some model of this key may be resting
    last_status: int
    uses: int
    refused: bool  # it was, and nothing has been answered with it since
