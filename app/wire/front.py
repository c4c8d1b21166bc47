"""How callers speak to the gateway: one API's requests in, the same API's answers out.

A front is the mirror of a provider: a value made of functions. Any front meets any provider in the
middle, where a request is a `ChatRequest` and an answer is `Event`s. Where both ends have the same
`wire`, nothing is translated: the body goes up and the answer comes down byte for byte, and the
front only watches for the end, the usage and errors.

    caller's body --glance--> Asked --read--> ChatRequest --provider.request--> upstream
    caller  <--stream/whole-- Event <--provider.decoder-- upstream        (wires differ)
    caller  <--copy---------------------------------------- upstream      (wires equal)

Pure: no clock, no socket, no web framework.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from app.wire.asked import Asked
from app.wire.chat import ChatRequest
from app.wire.endpoints import Endpoint
from app.wire.errors import GatewayError
from app.wire.kept import Kept
from app.wire.provider import Decoder, Wire
from app.wire.renderer import SSE, Renderer
from app.wire.upstream import Headers


class Incoming(Struct, frozen=True):
    """What a route knows of a request before anybody has read its body."""

    path: str  # percent-decoded, without query
    params: Mapping[str, str]  # of the route
    query: str  # as it was spelled, without access tokens
    headers: Mapping[str, str]  # looked up without regard to case
    body: bytes  # content encoding undone, at most limits.request_bytes


class Answering(Struct, kw_only=True):
    """What a renderer is told of the call that it answers."""

    asked: Asked
    chat: ChatRequest | None  # None where the wires are equal and nobody read it
    model: str  # that answers, without a prefix
    alias: str = ""  # the name that the caller asked for, where the config leads elsewhere
    created: int  # Unix time, seconds
    new_id: str  # 32 hex digits, for answers whose upstream gives no id
    session: dict[str, Any]  # the provider's own object ({} for none); renderers keep it current
    max_bytes: int  # limits.response_bytes, of whole answers and of one event
    keep: Callable[[Kept], None] | None = None  # for the caller's next turn; None: nothing is kept
    remember: Callable[[str], None] | None = (
        None  # that this id of an answer is the key's that made it
    )
    adds_usage: bool = False  # usage was asked for on the caller's behalf, who must not see it
    cuts: tuple[str, ...] = ()  # end the answer before these, as the upstream does not


class Route(Struct, frozen=True):
    """One path of a front. `provider` pins it; `stream` is said by the path and not by the body."""

    path: str  # Sanic's syntax
    methods: tuple[str, ...] = ("POST",)
    provider: str | None = None
    stream: bool | None = None


class Front(Struct, frozen=True, kw_only=True):
    """One API as the gateway offers it.

    `asks` is the wire of the bodies, `answers` the wire of the answers. They differ at the doors
    that take an upstream's own body and answer in OpenAI's shape.

    `glance` reads what routing needs; `read` makes the neutral request. Both raise GatewayError 400
    whose `param` is a path in this wire. Without `read` a front serves only providers of its own
    wire, which its routes pin.

    `copy` renders an upstream of the wire `answers` byte for byte. The decoder it is given is
    the provider's for untouched answers (`Native.decoder`), None where there is none. `stream` and
    `whole` render any other upstream from the events of its decoder.

    `error_body` (of the error and our id of the request), `error_event` and `error_headers` say a
    GatewayError as this API's SDKs expect it, also for errors from before routing. `error_event`
    ends a stream: nothing may follow it; it is given our id of the request too. None where a stream
    has no room for one: then its connection is broken.

    `endpoint` says that this is no chat but one of OpenAI's other endpoints. `is_text` says that
    the tokens of an answer can be guessed by its size.

    `credential_headers` are where this API's SDKs put a key; the first match wins. `keep_alive`
    bridges silence in a stream, b"" where the framing has no room for it; where it depends on the
    request it is made of that, and of whether anything has been sent. `models` makes this API's
    list of what the providers offer; None: it has no such route.

    `error_status` is the HTTP status of an error, `id_header` where the caller is told our id of
    the request, behind `id_prefix`. `word` is what the caller calls a member of the
    neutral request. `house` is the family that is asked for a model whose name says
    nothing else.

    `refers` tells which kept answer a body goes on from, and the further ones that it names; they
    and those before them are put into `Asked.kept`. `fail` ends a stream in place of `error_event`
    where its events are numbered, `wake` is what it says after a minute of silence.
    """

    name: str  # in logs and metrics
    asks: Wire
    answers: Wire
    routes: tuple[Route, ...]
    glance: Callable[[Incoming], Asked]
    read: Callable[[Asked], ChatRequest] | None = None
    copy: Callable[[Answering, Decoder | None], Renderer]
    stream: Callable[[Answering, Decoder], Renderer]
    whole: Callable[[Answering, Decoder], Renderer]
    error_body: Callable[[GatewayError, str], bytes]
    error_event: Callable[[GatewayError, str], bytes] | None
    error_headers: Callable[[GatewayError], Headers] = lambda error: []
    credential_headers: tuple[str, ...] = ("authorization",)
    stream_type: str = SSE  # of a stream that begins with a keep-alive
    keep_alive: bytes | Callable[[Asked, bool], bytes] = b": ping\n\n"
    models: Callable[[list[dict[str, Any]]], bytes] | None = None
    error_status: Callable[[GatewayError], int] = lambda error: error.status
    id_header: str = ""
    id_prefix: str = ""
    word: Callable[[str], str] = lambda member: member
    refers: Callable[[Asked], tuple[str | None, Sequence[str]]] | None = None
    fail: Callable[[Asked, GatewayError, str], bytes] | None = None
    wake: Callable[[Asked], bytes] | None = None
    house: str = "openai"
    endpoint: Endpoint | None = None
    is_text: bool = True
