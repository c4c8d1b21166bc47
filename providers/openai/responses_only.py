"""Models that speak Responses and nothing else, for callers of every front.

A whole upstream of them (`like: responses`), or some models of one that has the chat wire too:
those whose names the config gives, and those whose refusal of a chat body says so.
Protocol sheet: front-responses, 9.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import msgspec
from msgspec.structs import replace

from app.config.schema import Config
from app.wire.errors import GatewayError
from app.wire.provider import Call, Provider, Variant
from app.wire.upstream import UpstreamReply, UpstreamRequest
from providers.openai.host import Asking, Host, note
from providers.openai.learned import learn
from providers.openai.repairs import RESPONSES_TABLE
from providers.openai.request import effort_of, known_of
from providers.openai.responses_decode import decoder
from providers.openai.responses_request import encode_request, read

# "This model is only supported in v1/responses and not in v1/chat/completions."
_SAYS_SO = re.compile(r"\b(?:only|use)\b.{0,60}\bv1/responses\b", re.IGNORECASE).search
_MOST_MODELS = 1000
# What the gateway has written of its own accord: nobody misses it.
_UNNAMED = ("stream_options", "include", "store", "reasoning.summary")
# What a refusal calls the members that have another name in the chat wire.
_WORDS = (
    (b"reasoning.effort", b"reasoning_effort"),
    (b"max_output_tokens", b"max_completion_tokens"),
)


def instead_of(chat: Provider, host: Host) -> Provider:
    """The host's provider, asked in Responses by every front."""
    asking = _Asking(host)
    [native] = asking.also()
    return replace(
        chat,
        native=native,
        also=(),
        read=read,
        request=asking.request,
        decoder=decoder,
        prepare=None,
        stops=lambda call: False,
        retry=asking.retry,
        keep=asking.keep,
    )


def beside(
    chat: Provider, host: Host, patterns: Callable[[Config], Sequence[str]] = lambda config: ()
) -> Provider:
    """The host's chat provider, which leaves some models to Responses: those of `patterns`, and
    those of which this worker has learned it."""
    learned: dict[tuple[str, str], None] = {}
    found: dict[str, bool] = {}  # by model, of this config and what is learned
    found_of: list[Config] = []

    def knows(config: Config, model: str) -> bool:
        if not found_of or found_of[0] is not config or len(found) > _MOST_MODELS:
            found_of[:] = [config]
            found.clear()
        known = found.get(model)
        if known is None:
            is_named = any(fnmatchcase(model, pattern) for pattern in patterns(config))
            known = is_named or (host.address(config, "", model), model) in learned
            found[model] = known
        return known

    def learns(config: Config, model: str, error: GatewayError) -> bool:
        if error.status not in (400, 404) or not _SAYS_SO(error.message):
            return False
        while len(learned) >= _MOST_MODELS:
            del learned[next(iter(learned))]
        learned[host.address(config, "", model), model] = None
        found.clear()
        return True

    bare = replace(chat, endpoints={})
    variant = Variant(provider=instead_of(bare, host), knows=knows, learns=learns)
    return replace(chat, variant=variant)


class _Asking(Asking):
    """The requests of neutral bodies to /responses."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, host.responses_path, asks_usage=False, table=RESPONSES_TABLE)

    def request(self, call: Call) -> UpstreamRequest:
        """The neutral request in the words of Responses."""
        members = encode_request(call, known_of(call, self._base(call)))
        for name in self._host.drop:
            members.pop(name, None)
        for row in self._learned(call):
            if row.edit(members, self._dialect) and row.name not in _UNNAMED:
                note(call, [row.name])
        return self.post(call, msgspec.json.encode(members))

    def retry(self, call: Call, reply: UpstreamReply) -> UpstreamRequest | None:
        """The same once more, as the refusal has taught."""
        known, body = known_of(call, self._base(call)), reply.body
        for theirs, ours in _WORDS:
            body = body.replace(theirs, ours)
        if learn(known, replace(reply, body=body), call.chat, effort_of(call, known)):
            return self.request(call)
        return self._repaired(call, reply, self.request, self._table)
