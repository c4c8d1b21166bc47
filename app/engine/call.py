"""What a chat call is made of: who asks, which upstream and model, which keys may answer."""

from collections.abc import Mapping

from msgspec import Struct

from app.auth.caller import OPERATOR, Caller
from app.clients.public_fetch import Pictures
from app.engine.deadline import Deadline
from app.engine.sink import Sink
from app.telemetry.call_log import CallRecord
from app.wire.chat import Envelope
from app.wire.provider import Key, Provider


class Target(Struct):
    """One upstream and one of its models. `name` is what the config calls them together."""

    provider: Provider
    model: str
    name: str


class ChatCall(Struct, kw_only=True):
    """A chat call as a route hands it over. `fallbacks` are the ways to try when `provider` has no
    key left for this model; none of them is for a caller's own key or a named one."""

    provider: Provider
    envelope: Envelope
    body: bytes
    headers: Mapping[str, str]  # the caller's, looked up without regard to case
    model: str
    record: CallRecord
    caller: Caller = OPERATOR
    fallbacks: list[Target] = []


class KeyChoice(Struct):
    """Which keys may answer. A bound one is the caller's own, or named, or a conversation's."""

    fixed: Key | None = None  # of no pool
    wanted: str | None = None
    among: frozenset[str] | None = None
    is_bound: bool = False


ANY = KeyChoice()  # of the pool's keys


class CallState(Struct):
    """What the attempts of one call share."""

    ask: ChatCall
    sink: "Sink"
    watch: Deadline
    began: float
    id: float  # tells this call from others
    plain_headers: int  # of the answer, those that do not depend on the attempt
    first_try: float = 0.0
    found: Pictures | None = None
    too_long: set[str] = set()  # models whose window this request does not fit

    @property
    def pictures(self) -> Pictures:
        if self.found is None:
            self.found = Pictures()
        return self.found
