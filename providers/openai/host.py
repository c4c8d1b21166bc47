"""A host of OpenAI's chat wire as a provider: OpenAI's own API, and each entry of `upstreams`.

Where the caller speaks the same wire nothing is translated: the body goes on as it came but for the
gateway's own members, the model's prefix and what this upstream is known to refuse. A body that it
refuses in words that providers/openai/repairs.py knows is repaired and sent once more.
Sources: OpenAI's published API document; protocol sheet openai-compatible, sections 5 and 6.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from app.config.schema import Config
from app.wire.asked import Asked
from app.wire.dialect import Dialect
from app.wire.endpoints import Endpoint
from app.wire.errors import bad_response
from app.wire.provider import Call, Key, Native, Provider
from app.wire.upstream import Headers, UpstreamReply, UpstreamRequest
from app.wire.usage_chunk import asking
from providers.openai import responses
from providers.openai.errors import error_reader
from providers.openai.learned import learn
from providers.openai.repairs import (
    TABLE,
    TRANSLATED_TABLE,
    Memory,
    Repair,
    meant_by,
    repaired,
    required_by,
    written_for,
)
from providers.openai.request import effort_of, encode_request, known_of, stops
from providers.openai.translated import decoder, prepare

_COMPLETIONS = "/chat/completions"
# An upstream may refuse one parameter after the other.
_MOST_RETRIES = 4


class Host(Struct, frozen=True, kw_only=True):
    """Where a host is, and what it wants to be asked with.

    `setting` is where the config has its address. `passed_up` are the request headers of the caller
    that are passed on, `drop` the top-level members that the host shall never see, `endpoints`
    those it has beside chat, `checked_model` one to check a key with where the host lists none.
    `responses_path` is where it speaks Responses, "" where it does not; `passed_to_responses` are
    further headers (by their lower-case names) that are passed on there.
    """

    name: str
    family: str
    pool: str
    dialect: Dialect
    setting: str
    address: Callable[[Config, str, str], str]  # the URL of a path, for a model
    proxy: Callable[[Config], str]
    headers: tuple[tuple[str, str], ...] = ()
    passed_up: tuple[str, ...] = ("idempotency-key", "x-client-request-id", "user-agent")
    drop: tuple[str, ...] = ()
    endpoints: frozenset[Endpoint] = frozenset()
    checked_model: str = ""
    responses_path: str = ""
    passed_to_responses: Callable[[str], bool] = lambda name: False


def credential(dialect: Dialect, key: Key) -> Headers:
    """The header that holds the key; none for an empty key."""
    if not key.val:
        return []
    if dialect.auth == "api-key":
        return [("api-key", key.val)]
    return [("Authorization", f"Bearer {key.val}")]


def provider(host: Host, **more: Any) -> Provider:
    """The chat provider of a host; `more` are further members of it."""
    asking = Asking(host)
    lists = bool(host.dialect.models_path)
    return Provider(
        name=host.name,
        family=host.family,
        pool=host.pool,
        request=asking.request,
        read_error=error_reader(host.setting),
        decoder=partial(decoder, think_tags=host.dialect.think_tags),
        native=Native(
            wire="openai-chat",
            read=asking.read,
            request=asking.native_request,
            retry=asking.native_retry,
            keep=asking.keep,
            adds_usage=asking.adds_usage,
        ),
        also=asking.also(),
        prepare=prepare,
        stops=asking.stops,
        most_retries=_MOST_RETRIES,
        own_headers=("api-key",) if host.dialect.auth == "api-key" else (),
        retry=asking.retry,
        keep=asking.keep,
        models_request=asking.models_request if lists else None,
        check_request=None if lists else asking.check_request,
        check_reply=None if lists else asking.check_reply,
        read_models=partial(read_models, owner=host.family) if lists else None,
        **more,
    )


class Asking:
    """The requests to one endpoint of a host, and what this worker has learned of its models.

    `kinds` are the headers that say the type of the body and of the answer; None: JSON, or events
    where the caller streams. `asks_usage`: a stream tells the usage if it is asked to.
    """

    def __init__(
        self,
        host: Host,
        path: str = _COMPLETIONS,
        *,
        kinds: Headers | None = None,
        asks_usage: bool = True,
        table: Sequence[Repair] = TABLE,
    ) -> None:
        self._table = table
        self._host, self._dialect, self._memory = host, host.dialect, Memory()
        self._path, self._kinds = path, kinds
        self._asks_usage = asks_usage and host.dialect.usage == "ask"
        self._read_error = error_reader(host.setting)
        self._known = required_by(host.dialect)
        self._written = (*self._known, *written_for(host.dialect))

    def also(self) -> tuple[Native, ...]:
        """How the host is asked in Responses, where it speaks that."""
        host = self._host
        if not host.responses_path:
            return ()
        return (
            responses.native(
                self._post_responses, self._read_error, host.responses_path, host.drop
            ),
        )

    def _post_responses(self, call: Call, body: bytes, path: str) -> UpstreamRequest:
        request = self.post(call, body)
        request.url = self._host.address(call.config, path, call.model)
        passes = self._host.passed_to_responses
        request.headers += [(n, v) for n, v in call.headers.items() if passes(n)]
        return request

    def read(self, asked: Asked) -> bytes:
        """The caller's bytes without the gateway's members; the same bytes where there are none."""
        return asked.carried(self._host.drop)

    def native_request(self, call: Call) -> UpstreamRequest:
        """A chat body as it came, but for what the module's docstring says."""
        learned = self._learned(call)
        # The caller wrote openai/gpt-...: the prefix was for us.
        model = call.model if call.model != call.asked.model else None
        body, names = repaired(call.chat, (*self._known, *learned), self._dialect, model)
        if names:
            note(call, names)
        if self.adds_usage(call):
            body = asking(body)
        return self.post(call, body)

    def request(self, call: Call) -> UpstreamRequest:
        """The neutral request in the host's words."""
        written = encode_request(call, self._base(call), self._dialect)
        members: dict[str, Any] = {n: v for n, v in written.items() if n not in self._host.drop}
        for row in self._written:
            if row.edit(members, self._dialect) and row.name in self._dialect.refuses:
                note(call, [row.name])
        for row in self._learned(call):
            if row.edit(members, self._dialect) and row.name not in ("", "stream_options"):
                note(call, [row.name])
        return self.post(call, msgspec.json.encode(members))

    def adds_usage(self, call: Call) -> bool:
        """Whether usage is asked for on behalf of a caller who streams and says nothing of it."""
        if not (call.stream and self._asks_usage):
            return False
        is_said = call.asked.options.stream_options is not UNSET
        return not is_said and all(row.name != "stream_options" for row in self._learned(call))

    def retry(self, call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
        """The neutral request once more, as the refusal has taught."""
        known = known_of(call, self._base(call))
        if learn(known, reply, call.chat, effort_of(call, known)):
            return self.request(call)
        return self._repaired(call, reply, self.request, TRANSLATED_TABLE)

    def native_retry(self, call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
        """The caller's body once more, repaired."""
        return self._repaired(call, reply, self.native_request, self._table)

    def _repaired(
        self,
        call: Call,
        reply: UpstreamReply,
        ask: Callable[[Call], UpstreamRequest],
        table: Sequence[Repair],
    ) -> UpstreamRequest | None:
        """The same, repaired by the first row that the refusal means and that changes it."""
        learned, dropped = self._learned(call), list(call.dropped)
        rows = [row for row in meant_by(reply, table) if row not in learned]
        body = ask(call).body if rows else None
        for row in rows:
            call.repairs = (*learned, row)
            again = ask(call)
            if again.body != body:
                return again
        call.repairs, call.dropped = learned, dropped
        return None

    def stops(self, call: Call) -> bool:
        """Whether the host is told the stop sequences."""
        return stops(call, known_of(call, self._base(call)))

    def keep(self, call: Call) -> None:
        """The repaired request was taken: the next one is right at once."""
        self._memory.keep(self._url(call), call.model, self._learned(call), call.now)

    def models_request(self, config: Config, key: Key) -> UpstreamRequest:
        """Asks for the list of models."""
        host, path = self._host, self._dialect.models_path
        return UpstreamRequest(
            method="GET",
            url=path if path.startswith("http") else host.address(config, path, ""),
            headers=[*credential(self._dialect, key), ("Accept-Encoding", "gzip"), *host.headers],
            proxy=host.proxy(config) or config.proxy_url or None,
        )

    def check_request(self, config: Config, key: Key) -> UpstreamRequest:
        """Asks for an answer to nothing, which costs nothing: a good key is told what is wrong."""
        host, model = self._host, self._host.checked_model
        return UpstreamRequest(
            method="POST",
            url=host.address(config, _COMPLETIONS, model),
            headers=[
                *credential(self._dialect, key),
                ("Content-Type", "application/json"),
                ("Accept-Encoding", "identity"),
                *host.headers,
            ],
            body=msgspec.json.encode({"model": model, "messages": []}),
            proxy=host.proxy(config) or config.proxy_url or None,
        )

    def check_reply(self, reply: UpstreamReply) -> None:
        """Raises what the reply says against the key, or the address."""
        error = self._read_error(reply) if reply.status != 200 else None
        if error is not None and error.status not in (400, 422):
            raise error

    def _learned(self, call: Call) -> tuple[Repair, ...]:
        """The repairs of this call: those remembered, and those its own refusals have taught."""
        if call.repairs:
            return call.repairs
        if not self._memory.kept:
            return ()
        return self._memory.rows(self._url(call), call.model, call.now)

    def _base(self, call: Call) -> str:
        return self._host.address(call.config, "", call.model)

    def _url(self, call: Call) -> str:
        return self._host.address(call.config, self._path, call.model)

    def post(self, call: Call, body: bytes, kinds: Headers | None = None) -> UpstreamRequest:
        """The request with this body; `kinds` in place of the endpoint's own."""
        host, lookup = self._host, call.headers
        headers: Headers = [
            *credential(self._dialect, call.key),
            *(kinds or self._kinds or _json_kinds(call)),
            ("Accept-Encoding", "identity"),  # a compressor would hold events back
            *host.headers,
        ]
        for name in host.passed_up:
            value = lookup.get(name)
            if value is not None:
                headers.append((name, value))
        return UpstreamRequest(
            method="POST",
            url=self._url(call),
            headers=headers,
            body=body,
            proxy=host.proxy(call.config) or call.config.proxy_url or None,
        )


def _json_kinds(call: Call) -> Headers:
    return [
        ("Content-Type", "application/json"),
        ("Accept", "text/event-stream" if call.stream else "application/json"),
    ]


def note(call: Call, names: list[str]) -> None:
    """Names what is left out, once."""
    call.dropped += [name for name in dict.fromkeys(names) if name not in call.dropped]


def read_models(reply: UpstreamReply, owner: str) -> list[dict[str, Any]]:
    """The models of the reply in OpenAI's shape, unknown members included.

    `data` or `models` of an object, or a list alone (Together, GitHub). Raises GatewayError 502
    for anything else.
    """
    try:
        value = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        value = value.get("data") if value.get("data") is not None else value.get("models")
    if not isinstance(value, list):
        raise bad_response(f"The list of models of {owner} is not readable.")
    found = []
    for entry in value:
        name = _model_id(entry) if isinstance(entry, dict) else None
        if name is not None:
            found.append(as_model(name, owner, entry))
    return found


def _model_id(entry: dict[str, Any]) -> str | None:
    return next((n for at in ("id", "model", "name") if isinstance(n := entry.get(at), str)), None)


def as_model(name: str, owner: str, entry: dict[str, Any] | None = None) -> dict[str, Any]:
    """An OpenAI model object of what is known of a model."""
    entry = entry or {}
    created, owned_by = entry.get("created"), entry.get("owned_by") or entry.get("publisher")
    return entry | {
        "id": name,
        "object": "model",
        "created": created if isinstance(created, int) else 0,
        "owned_by": owned_by if isinstance(owned_by, str) else owner,
    }
