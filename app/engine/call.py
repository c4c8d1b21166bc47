"""What a chat call is made of: who asks, which upstream and model, which keys may answer."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from app.auth.caller import OPERATOR, Caller
from app.clients.public_fetch import Pictures
from app.engine.deadline import Deadline
from app.engine.sink import Sink
from app.telemetry.call_log import CallRecord
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.errors import bad_request
from app.wire.front import Front
from app.wire.provider import Key, Native, Provider


class Target(Struct):
    """One upstream and one of its models. `name` is what the config calls them together.

    Only a target that the caller named itself may be shown the caller's own credential. `alias` is
    the model's name as the caller wrote it, where the config's `models` leads from it to here.
    """

    provider: Provider
    model: str
    name: str
    is_named: bool = True
    alias: str = ""


class ChatCall(Struct, kw_only=True):
    """A chat call as a route hands it over.

    `fallbacks` are the targets to try when `target` has no key left; none of them is for a caller's
    own key or a named one.
    """

    front: Front
    target: Target
    asked: Asked
    headers: Mapping[str, str]  # the caller's, looked up without regard to case
    record: CallRecord
    caller: Caller = OPERATOR
    fallbacks: list[Target] = []
    owner: bytes | None = None  # whose answers are kept for a next turn; None: nobody's


class KeyChoice(Struct):
    """Which keys may answer. A bound one is the caller's own, or named, or a conversation's.

    A preferred one is asked first if it can serve: the upstream may have its prompt in a cache.
    """

    fixed: Key | None = None  # of no pool
    wanted: str | None = None
    preferred: str = ""
    among: frozenset[str] | None = None
    is_bound: bool = False


ANY = KeyChoice()  # of the pool's keys


class CallState(Struct):
    """What the attempts of one call share."""

    call: ChatCall
    sink: Sink
    deadline: Deadline
    began: float
    id: float  # tells this call from others
    plain_headers: int  # of the answer, those that do not depend on the attempt
    first_try: float = 0.0
    found: Pictures | None = None
    too_long: set[str] = set()  # models whose window this request does not fit
    chat: ChatRequest | None = None  # the neutral request, once somebody needed it

    @property
    def pictures(self) -> Pictures:
        """The pictures by URL of this call, fetched once for all of its attempts."""
        if self.found is None:
            self.found = Pictures()
        return self.found

    def begin_headers(self, target: Target, key_id: str) -> None:
        """Tells in the answer's headers who answers, in place of whoever was tried before."""
        headers = self.sink.headers
        del headers[self.plain_headers :]
        if key_id:
            headers.append(("x-auth-id", key_id))
        headers.append(("x-attempts", str(self.call.record.attempts)))
        if self.call.fallbacks or target.alias:
            headers.append(("x-gateway-model", target.name))

    def neutral(self) -> ChatRequest:
        """The neutral request, read once. Raises GatewayError 400."""
        if self.chat is None:
            read = self.call.front.read
            assert read is not None, "a front without `read` pins providers of its own wire"
            self.chat = read(self.call.asked)
        return self.chat


class Plan(Struct):
    """How this front meets this provider: in one wire, or in the neutral words between them."""

    native: Native | None  # the body travels in its own wire
    copies: bool  # and the answer comes back untouched
    read: Callable[[CallState], Any]
    index: Callable[[Asked], str | None]


def plan(front: Front, provider: Provider) -> Plan:
    """Chooses in one place. A translated request gets no untouched answer: names were changed."""
    native = provider.speaking(front.asks)
    if native is None:
        return Plan(
            native=None,
            copies=False,
            read=lambda state: provider.read(_sayable(state.neutral(), provider), state.call.asked),
            index=provider.index,
        )
    read = native.read
    return Plan(
        native=native,
        copies=native.wire == front.answers,
        read=lambda state: read(state.call.asked),
        index=native.index or provider.index,
    )


def _sayable(chat: ChatRequest, provider: Provider) -> ChatRequest:
    """The request. Raises GatewayError 400 where what matters of it cannot be told upstream."""
    for name, path in chat.insists.items():
        if name in provider.lacks:
            raise bad_request(
                f"{path}: {provider.name} has nothing like it; leave it out, or ask another model.",
                path,
            )
    if not chat.tools:
        for tool in chat.server_tools:
            if tool.kind not in provider.server_tools:
                raise bad_request(
                    f"{tool.path}: {tool.name[:64]!r} is run by the provider of a model, and "
                    f"{provider.name} has no {tool.kind.replace('_', ' ')} here.",
                    tool.path,
                )
    return chat


def dropped_names(
    chat: ChatRequest, provider: Provider, front: Front, said: list[str]
) -> list[str]:
    """What was left out on the way to this provider, in the caller's words. `said` is the
    provider's own part of it."""
    names = chat.dropped + [
        f"tools.{tool.name}" for tool in chat.server_tools if tool.kind not in provider.server_tools
    ]
    if chat.prompt_cache_key is not None:  # a hint of the front's, without effect on the answer
        said = [name for name in said if name != "prompt_cache_key"]
    return list(dict.fromkeys([*names, *map(front.word, said)]))


def credential_headers(front: Front, target: Target) -> tuple[str, ...]:
    """Where a caller's own credential for this upstream may stand; the first match wins."""
    provider = target.provider
    if not (provider.takes_own_key and target.is_named):
        return ()
    return front.credential_headers + provider.own_headers
