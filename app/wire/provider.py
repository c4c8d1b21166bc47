"""What a provider must supply. A provider is a value made of functions, not a subclass.

CONTRIBUTING.md, "Add a provider", has a complete example.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.endpoints import Endpoint
from app.wire.errors import GatewayError
from app.wire.events import Event, Usage
from app.wire.refusals import as_close_error
from app.wire.upstream import UpstreamReply, UpstreamRequest, Via

# The protocols that callers and upstreams speak; all but the last are for chat.
Wire = Literal[
    "openai-chat", "openai-responses", "anthropic", "gemini", "chatgpt-web", "openai-endpoint"
]


class Key(Struct, frozen=True):
    """One credential of a pool. `id` is "" for the caller's own, which is never pooled.

    `fields` are the other members of its config entry (organization_id, version, bot_id ...).
    """

    pool: str
    id: str
    val: str
    fields: Mapping[str, str] = {}

    @property
    def is_callers_own(self) -> bool:
        """Whether the caller brought it; such a key has no id."""
        return not self.id

    def __repr__(self) -> str:  # the value must not reach a log or a traceback
        return f"Key({self.pool}/{self.id or 'caller'})"


class Call(Struct, kw_only=True):
    """One chat call on its way to one upstream with one key. Pure data: no clients, no clock.

    `chat` is what the provider's `read` made of the request. `headers` are the caller's, names
    lower-cased. `learned` is what `prepare` found out, `repairs` what `retry` did;
    `dropped` names the parameters that were left out because the upstream cannot say them (told in
    x-gateway-dropped-params).
    """

    config: Config
    asked: Asked
    chat: Any
    key: Key
    model: str  # without a provider prefix; "" when the caller named none
    stream: bool
    headers: Mapping[str, str]
    now: int  # Unix time, seconds
    new_id: Callable[[], str]  # 32 hex digits, different at each call
    learned: Any = None
    repairs: tuple[Any, ...] = ()
    dropped: list[str] = []


class Upstream(Protocol):
    """What `prepare` is given: the network and a place for slow work."""

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends a whole request and returns the whole reply."""

    async def offload(self, function: Callable[..., Any], *args: Any) -> Any:
        """Does CPU work above 1 ms elsewhere, one piece at a time per worker.

        `function` is a module's own; it is stopped when its caller is cancelled. Raises
        TimeoutError when it takes too long.
        """

    async def renew(self, key: Key) -> None:
        """From now on the configured key of this pool and id is this one, in every worker."""

    async def fetch(self, urls: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """What stands at a caller's URLs: mime type and content of each.

        Guarded: caps of number, size and time, no private, loopback or link-local address, whatever
        the redirects, and nothing for callers who may not use the gateway's keys. Fetched once for
        all attempts of a call. Raises GatewayError 400 for what cannot or may not be fetched.
        """


class Decoder(Protocol):
    """Upstream bytes in, events out; accepts any split. Raises GatewayError for a broken answer."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """The events that the next bytes complete."""

    def finish(self) -> Iterable[Event]:
        """End of the body. Raises `upstream_cut()` when the answer was not whole."""


@runtime_checkable
class CountingDecoder(Decoder, Protocol):
    """A decoder whose upstream counts from the start of an answer. Its events tell that at the end,
    which an answer that breaks off never reaches."""

    def counted(self) -> Usage | None:
        """What the upstream has counted so far."""


Send = Callable[[UpstreamRequest], Awaitable[UpstreamReply]]
# Gives a session a new token where its own is about to end, the same key where it is not. Given
# the Unix time in seconds. Raises GatewayError for a token that has ended for good.
Refresh = Callable[[Key, Config, int, Send], Awaitable[Key]]


class ForwardRule(Struct, frozen=True, kw_only=True):
    """A family of raw paths: `prefix` on our side goes to `base(config)` + `strip`ped path.

    `credential` puts a key into the outgoing headers. A caller's own credential stays in the header
    it came in; but where `moves` says so of that header and token, it goes where `credential` puts
    it, because this upstream would not look for it there. Where `own` is given it finds the
    caller's credential in their headers (lower-cased names, "" for none), and `credential` says it
    as it says a pool's.

    Bodies are never touched, with two exceptions. An upstream that writes its own addresses into
    its JSON would lead the caller past the gateway: `rewrite`, given the path behind `prefix` and
    the caller's address of `prefix`, returns what to do with the body of a 200, or None to leave
    it alone; such a body is read whole. And where `asks_usage`, streams of chat completions by the
    pool's keys are asked for their usage, which is taken out again before the caller gets it.

    `read_error` says what a refusal means for the key, as the provider's does on the chat route;
    the answer itself is passed on as it came.

    Of an upstream with `websockets`, `read_close` says the same of the reason of a close frame.

    `conversation` finds the id of the conversation that a path is about: such a request goes to the
    session that is known to have it. `lives_elsewhere` knows the models that only the gateway's own
    chat has: who asks for one here, and is refused, is told so.
    """

    prefix: str  # "/v1/": what the gateway's path begins with
    upstream_prefix: str  # "/v1/": what stands in its place upstream
    provider: str  # name for logs and metrics
    family: str  # what access.tokens[].providers calls it
    pool: str  # which keys serve it
    base: Callable[[Config], str]
    proxy: Callable[[Config], str]
    via: Via = "api"
    credential: Callable[[Key, Mapping[str, str], Config], list[tuple[str, str]]]
    read_error: Callable[[UpstreamReply], GatewayError]  # as a provider's, to judge the key by
    credential_headers: tuple[str, ...] = ("authorization",)  # the caller's, replaced by the above
    credential_query: tuple[str, ...] = ()  # query members that carry a credential
    own_query: tuple[str, ...] = ()  # those that carry one of the caller's that stays where it is
    websockets: bool = False  # it has some: they are forwarded
    read_close: Callable[[str], GatewayError] = as_close_error  # by the reason of a close frame
    query: tuple[tuple[str, str], ...] = ()  # added, unless the caller has a member of that name
    private_headers: tuple[str, ...] = ()  # of the answer, kept back when a pool key was used
    defaults: Callable[[Config], list[tuple[str, str]]] = lambda config: []  # unless the caller has
    own: Callable[[Mapping[str, str]], str] | None = None  # the caller's credential; see above
    renewed: Callable[[Key, list[str], int], Key | None] | None = None  # as a provider's
    refresh: Refresh | None = None  # before a request with one of the pool's keys
    anonymous: bool = False  # may be asked without any key
    moves: Callable[[str, str], bool] = lambda header, token: False
    rewrite: Callable[[str, str], Callable[[bytes], bytes] | None] | None = None
    conversation: Callable[[str], str | None] = lambda path: None
    lives_elsewhere: Callable[[str], bool] = lambda model: False
    asks_usage: bool = False


class Native(Struct, frozen=True, kw_only=True):
    """How this upstream is asked by a body that is in its own wire already.

    `read` checks as little as it must; the gateway's members are gone from what it returns.
    `request` is the provider's for such a body, and so are `prepare`, `retry` and `keep`.
    `adds_usage` says of a call whether its request asks for usage that its caller did not ask for.
    `decoder` and `index` are None where the provider's own serve. `untouched` decodes an answer
    that is copied, where the upstream says where it goes on or ends: it says `Piece`.
    `read_error` is the provider's for a refusal of such a body. `earlier` is the id of an earlier
    answer that the body goes on from: the key that has made it is asked, where that is known.
    """

    wire: Wire
    read: Callable[[Asked], Any]
    request: Callable[[Call], UpstreamRequest]
    prepare: Callable[[Call, Upstream], Awaitable[Call]] | None = None
    retry: Callable[[Call, UpstreamReply], UpstreamRequest | None] | None = None
    keep: Callable[[Call], None] | None = None
    adds_usage: Callable[[Call], bool] | None = None
    decoder: Callable[[Call], Decoder] | None = None
    untouched: Callable[[Call], Decoder] | None = None
    index: Callable[[Asked], str | None] | None = None
    read_error: Callable[[UpstreamReply], GatewayError] | None = None
    earlier: Callable[[Asked], str | None] | None = None


class Count(Struct, frozen=True, kw_only=True):
    """How this upstream counts the tokens of a prompt.

    `request` takes the call as the provider's `request` does, or `native.request` for a body in the
    upstream's own wire. `read` finds the number, None where there is none.
    """

    request: Callable[[Call], UpstreamRequest]
    read: Callable[[UpstreamReply], int | None]
    seconds: float  # the most to wait


class Variant(Struct, frozen=True, kw_only=True):
    """The same upstream in another wire, for those of its models that speak that alone.

    `provider` shares name and pool. `knows` says whether a model is one of them; `learns` whether a
    refusal has just said so, which this worker remembers.
    """

    provider: "Provider"
    knows: Callable[[Config, str], bool]
    learns: Callable[[Config, str, GatewayError], bool]


class Provider(Struct, frozen=True, kw_only=True):
    """How one upstream is spoken to.

    `request` translates the neutral request that stands in `call.chat`, or what `read` made of it.
    `decoder` reads its answer. `native` is for bodies in the upstream's own wire, `also` for those
    in further ones that it speaks.
    `read` turns the neutral request into what `request` wants, once per call however many keys are
    tried: it raises GatewayError 400 for what cannot be asked, and finds the conversation.

    `name` is for logs and metrics, `family` is what access.tokens[].providers calls it. `pool`
    names the keys. `index` finds the key id that the body asks for. `takes_own_key` is False
    where callers bring no credential of their own; `own_headers` are those of this upstream's own
    API that may hold one, besides the front's. `candidates`, where an id is not enough to choose
    by, gives the keys that fit: from the pool's keys, the caller's own token or "", their headers
    and the request.

    `session` is the provider's own object in answers ({} for none). `conversation` is the id of the
    conversation that what was `read` continues, `conversation_of` the one in the session object as
    it is handed out: so it is known whose session to go on with. `resumed` makes of that object
    the gateway's own member of a body that goes on, None where there is nothing to go on with.

    `retry` may answer an upstream's refusal with another request for the same key, asked up to
    `most_retries` times before the refusal is told: the parameters this upstream turned out not to
    take are gone from it (and named in `call.dropped`). None: the refusal stands. What it did
    stands in `call.repairs`; `keep` is told of the call once such a request was accepted.
    `stops` is whether the upstream itself ends its answer at the request's stop sequences; where it
    does not, the front is given them to cut at. `lacks` are members of the neutral request that it
    cannot be told, where a front may insist on them; `server_tools` are the tools it runs itself.
    `check_request` asks as cheaply as the upstream allows whether a key is good, `check_reply`
    raises what the reply refuses (default: `read_error` of a status that is not 200); without
    them `models_request` asks.
    `models_request` asks the upstream what it offers; `read_models` makes OpenAI model objects of
    the reply and raises what `read_error` says for a refusal. Both or neither.

    `endpoints` are what the upstream has beside chat, each as a provider of its own: it shares name
    and pool, and its `native` is of the wire "openai-endpoint". `variant` is asked for the models
    that speak another wire alone.

    `explain` is `read_error` for the answer to a call, where the call itself helps to understand.
    `renewed` is the key after an answer with these Set-Cookie lines, None when it did not change.
    `cancel` is what to send when a call is left before its end, to an upstream that would go on
    answering; it is given the call's decoder.
    """

    name: str
    family: str
    pool: str
    request: Callable[[Call], UpstreamRequest]
    read_error: Callable[[UpstreamReply], GatewayError]
    decoder: Callable[[Call], Decoder]
    native: Native | None = None
    also: tuple[Native, ...] = ()
    read: Callable[[ChatRequest, Asked], Any] = lambda chat, asked: chat
    index: Callable[[Asked], str | None] = lambda asked: None
    takes_own_key: bool = True
    own_headers: tuple[str, ...] = ()
    candidates: Callable[[Sequence[Key], str, Mapping[str, str], Asked], list[Key]] | None = None
    session: Callable[[Call], dict[str, Any]] = lambda call: {}
    conversation: Callable[[Any], str | None] | None = None
    conversation_of: Callable[[dict[str, Any]], str | None] | None = None
    resumed: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    prepare: Callable[[Call, Upstream], Awaitable[Call]] | None = None
    retry: Callable[[Call, UpstreamReply], UpstreamRequest | None] | None = None
    keep: Callable[[Call], None] | None = None
    check_request: Callable[[Config, Key], UpstreamRequest] | None = None
    check_reply: Callable[[UpstreamReply], None] | None = None
    models_request: Callable[[Config, Key], UpstreamRequest] | None = None
    read_models: Callable[[UpstreamReply], list[dict[str, Any]]] | None = None  # OpenAI's Model
    explain: Callable[[Call, UpstreamReply], GatewayError] | None = None
    renewed: Callable[[Key, list[str], int], Key | None] | None = None
    cancel: Callable[[Any], UpstreamRequest | None] | None = None
    endpoints: Mapping[Endpoint, "Provider"] = {}
    variant: Variant | None = None
    anonymous: bool = False  # may be asked without any key
    idle_seconds: float | None = None  # overrides timeouts.idle
    most_retries: int = 1
    stops: Callable[[Call], bool] = lambda call: True
    lacks: frozenset[str] = frozenset()
    server_tools: frozenset[str] = frozenset()
    count: Count | None = None  # None: it cannot, and the count is estimated
    first_event_seconds: float | None = None  # overrides timeouts.first_event

    def speaking(self, wire: Wire) -> Native | None:
        """How a body of this wire goes up as it is; None where it has to be translated."""
        if self.native is not None and self.native.wire == wire:
            return self.native
        return next((each for each in self.also if each.wire == wire), None)

    def asked_for(self, config: Config, model: str) -> "Provider":
        """The provider in the wire that this model speaks."""
        variant = self.variant
        return variant.provider if variant is not None and variant.knows(config, model) else self
