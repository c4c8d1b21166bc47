"""The values of the key pool: an entry and a group of keys, a lease, the status of a key."""

import random

from msgspec import Struct

from app.state.rate_windows import Limits
from app.state.shared_table import FIELDS, ROWS
from app.wire.errors import GatewayError
from app.wire.provider import Key

NO_ROW = ROWS * FIELDS  # base of the row behind the last: never written, so it never cools down


class Entry:
    """One key of this worker's pool, and where its row is in shared memory."""

    __slots__ = ("base", "key", "limits", "name", "row")

    def __init__(self, key: Key, name: str, row: int, limits: Limits | None) -> None:
        self.key, self.name, self.limits = key, name, limits
        self.row = row if row >= 0 else ROWS
        self.base = self.row * FIELDS


class Group:
    """The keys of one upstream, and the row of the upstream itself (its breaker)."""

    __slots__ = ("base", "by_id", "deck", "entries", "name")

    def __init__(self, name: str, row: int) -> None:
        self.name = name
        self.base = (row if row >= 0 else ROWS) * FIELDS
        self.entries: list[Entry] = []
        self.by_id: dict[str, Entry] = {}
        self.deck: list[Entry] = []

    def draw(self) -> Entry:
        """Returns a random key. None is drawn twice before each was drawn once, so that a small
        number of calls is shared evenly too."""
        if not self.deck:
            self.deck = self.entries.copy()
            random.shuffle(self.deck)
        return self.deck.pop()


class Lease:
    """One attempt with one key. The holder reports how it went and then always releases it."""

    __slots__ = (
        "asked",
        "at",
        "call",
        "claims",
        "entry",
        "group",
        "guess",
        "is_counted",
        "key",
        "model",
    )

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
        self.model = model
        self.call = call  # id of the call: attempts of one call are no independent witnesses
        self.at = at  # Unix time at which the attempt began
        self.claims: tuple[int, ...] = ()  # bases of the rows whose probe this attempt is
        self.guess = guess  # tokens, as estimated before the call
        self.asked = False  # the request has been sent
        self.is_counted = False  # it counts as an open call of the key

    @property
    def probes_upstream(self) -> bool:
        """Whether this attempt is the probe of an open breaker."""
        return self.group is not None and self.group.base in self.claims


class KeysBusy(GatewayError):
    """Every key that fits has as many open calls as it may have: a short wait may help."""


class KeysTried(GatewayError):
    """Every key that fits has been tried in this call."""


NO_KEY = Key("", "", "")


class KeyStatus(Struct):
    """One key as its operator sees it.

    `state` is awake (available), resting (cooling down), due (half-open), probing or disabled.
    `expires` is the Unix time at which a session ends, where it tells; see `Sessions.expiries`.
    """

    pool: str
    id: str
    state: str
    why: str
    until: float
    models: int  # 1 when some model of this key may be cooling down
    last_status: int
    uses: int
    refused: bool  # the last word of the upstream about the key is a refusal
    models_until: float = 0.0  # when the last of these cooldowns ends
    limits: Limits | None = None
    expires: int | None = None
