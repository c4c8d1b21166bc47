"""Bodies that an upstream refuses, repaired: a closed table of what it says and what helps.

A row is applied in advance where the dialect knows that it is needed, else once the upstream has
refused the body in the row's words. What helped is remembered for an hour, so that the next call is
right at once. What would give the answer another meaning has no row, and the refusal is told:
`tool_choice`, `response_format`, images, `n`. Source: protocol sheet openai-compatible, section 6.
"""

import re
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw, Struct

from app.wire.chat import read_members
from app.wire.dialect import Dialect
from app.wire.refusals import read_refusal
from app.wire.upstream import UpstreamReply
from providers.openai import body_edits as edits

_KEEP_SECONDS = 3600
_MOST_KEPT = 1000


class Repair(Struct, frozen=True, kw_only=True):
    """One row. `name` is told in x-gateway-dropped-params, "" where nothing is left out; `is_meant`
    reads a refusal's text.

    A body without any of `needles` needs no repair. What `lasts` is remembered for the model; the
    rest is about one conversation.
    """

    name: str
    is_meant: Callable[[str], bool]
    needles: tuple[bytes, ...]
    edit: edits.Edit
    lasts: bool = True


_UNKNOWN = re.compile(
    r"unsupported|(?:not|n't) (?:currently |yet )?(?:supported|support\b|permitted|allowed)"
    r"|unrecogni[sz]ed|unexpected|unknown (?:parameter|field|argument|name|member|variant|key)"
    r"|extra (?:inputs|fields)|extra_forbidden|only supports",
    re.IGNORECASE,
)
# The member is known, and what it holds is wrong.
_VALUE = re.compile(
    r"unsupported value|too (?:large|small|long|short|many|high|low)|at (?:most|least)\b"
    r"|(?:more|less|greater|larger|smaller) than|\bm(?:ax|in)imum\b|missing",
    re.IGNORECASE,
)


def _says_unknown(pattern: str) -> Callable[[str], bool]:
    """Whether a text says of what `pattern` finds that the upstream does not take it."""
    find = re.compile(pattern, re.IGNORECASE).search

    def is_meant(text: str) -> bool:
        return bool(find(text) and _UNKNOWN.search(text)) and not _VALUE.search(text)

    return is_meant


def _named(name: str) -> str:
    """Finds a member's name where a text means the member, also in camel case (xAI)."""
    word = name.replace("_", "_?")
    return rf"(?:['\"`]|: ?|\b(?:parameter|argument|field|property|body\.) ?){word}\b|^{word}\b"


def _has(pattern: str) -> Callable[[str], bool]:
    find = re.compile(pattern, re.IGNORECASE).search
    return lambda text: find(text) is not None


def _needle(*names: str) -> tuple[bytes, ...]:
    return tuple(f'"{name}"'.encode() for name in names)


def _without(name: str) -> Repair:
    return Repair(
        name=name,
        is_meant=_says_unknown(_named(name)),
        needles=_needle(name),
        edit=edits.without(name),
    )


def _renamed(name: str, other: str) -> Repair:
    return Repair(
        name=name,
        is_meant=_says_unknown(_named(name)),
        needles=_needle(name),
        edit=edits.renamed(name, other),
    )


_MAX_COMPLETION = _renamed("max_completion_tokens", "max_tokens")
_MAX = _renamed("max_tokens", "max_completion_tokens")
_DEVELOPER = Repair(
    name="developer",
    # DeepSeek: "unknown variant `developer`"; Z.AI: code 1214, "Incorrect role information".
    is_meant=_has(r"developer.*(?:role|variant)|(?:role|variant).*developer|'1214'|incorrect role"),
    needles=_needle("developer"),
    edit=edits.developer_as_system,
)
_USAGE = _without("stream_options")
_THINKING_WORDS = r"reasoning_content|reasoning_details|thinking_blocks|\breasoning\b"
_THINKING_BACK = Repair(
    name="reasoning_content",
    is_meant=_says_unknown(_THINKING_WORDS),
    needles=_needle(*edits.THINKING),
    edit=edits.thinking_returned,
)
_NO_THINKING = Repair(
    name="reasoning_content",
    is_meant=_says_unknown(_THINKING_WORDS),
    needles=_needle(*edits.THINKING),
    edit=edits.without_thinking,
)
_TOOL_IDS = Repair(
    name="tool_call_id",
    is_meant=_has(r"tool[ _]call[ _]id.*length of 9"),
    needles=_needle("tool_call_id", "tool_calls"),
    edit=edits.nine_character_ids,
)
_TEXT = Repair(
    name="content",
    is_meant=_has(
        r"content.*(?:(?:must|should) be an? (?:valid )?string|expected (?:an? )?string"
        r"|cannot unmarshal array|type string with value array)"
        r"|invalid type: sequence, expected a string"
    ),
    needles=(b'"content"',),
    edit=edits.content_as_text,
)
_NAMES = Repair(
    name="name",
    is_meant=_says_unknown(r"messages?\b.*['\"`.]name\b"),
    needles=_needle("name"),
    edit=edits.without_names,
)
# Every SDK asks for embeddings in base64.
_NUMBERS = Repair(
    name="encoding_format",
    is_meant=_has(r"encoding_?format|base64"),
    needles=_needle("encoding_format"),
    edit=edits.numbers_for_base64,
)
_NO_FORMAT = _without("encoding_format")
# Members without which the answer means the same, or nearly so.
MEMBERS = (
    "parallel_tool_calls",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "seed",
    "user",
    "store",
    "metadata",
    "service_tier",
    "verbosity",
    "prompt_cache_key",
    "safety_identifier",
    "frequency_penalty",
    "presence_penalty",
    "stop",
)
# In this order: of two rows that a text may mean, the first one that changes the body is tried.
TABLE = (
    _MAX_COMPLETION,
    _MAX,
    _DEVELOPER,
    _USAGE,
    _THINKING_BACK,
    _NO_THINKING,
    _TOOL_IDS,
    _NUMBERS,
    _NO_FORMAT,
    *map(_without, MEMBERS),
    _NAMES,
    _TEXT,
)


# Of the gateway's own bodies besides: callers of other APIs cannot write them otherwise.
_ANSWERED = Repair(
    name="",
    is_meant=_has(r"role ['\"`]?user['\"`]? after role ['\"`]?tool"),
    needles=(b'"tool"',),
    edit=edits.answered_tools,
)
_ALTERNATING = Repair(
    name="",
    is_meant=_has(r"(?:should|must) alternate"),
    needles=(b'"messages"',),
    edit=edits.alternating_turns,
)
_THINKING_OFF = Repair(
    name="thinking",
    is_meant=_has(
        r"reasoning_content.*(?:passed back|missing)|missing.*reasoning_content"
        r"|tool_choice.*thinking|enable_thinking must be set to false"
    ),
    needles=(b'"messages"',),
    edit=edits.thinking_off,
    lasts=False,  # a forced tool, or a round whose thoughts another model has had
)
TRANSLATED_TABLE = (_ANSWERED, _ALTERNATING, _THINKING_OFF, *TABLE)

# Of bodies of Responses.
RESPONSES_TABLE = (
    Repair(
        name="thinking_blocks",
        is_meant=_has(
            r"required following item|invalid_encrypted_content"
            r"|encrypted content.*(?:not be|invalid|fail)|item with id 'rs_"
        ),
        needles=_needle("reasoning"),
        edit=edits.without_reasoning_items,
        lasts=False,
    ),
    Repair(
        name="reasoning.summary",
        is_meant=_has(r"reasoning[._ ](?:summary|summaries)"),
        needles=_needle("reasoning"),
        edit=edits.without_summaries,
    ),
    *map(_without, ("stream_options", "include", "store")),
    *map(_without, (n for n in MEMBERS if n not in ("store", "stop", "logprobs", "verbosity"))),
    Repair(
        name="verbosity",
        is_meant=_says_unknown("verbosity"),
        needles=_needle("verbosity"),
        edit=edits.without_verbosity,
    ),
    _without("reasoning"),
)


def required_by(dialect: Dialect) -> tuple[Repair, ...]:
    """What the dialect knows that a caller's body needs: only what is refused for certain."""
    known = [_without(name) for name in sorted(dialect.refuses)]
    if dialect.usage == "told":
        known.append(_USAGE)
    if dialect.tool_ids == "nine":
        known.append(_TOOL_IDS)
    return tuple(known)


def written_for(dialect: Dialect) -> tuple[Repair, ...]:
    """What makes of the gateway's own body one in this dialect, besides `required_by`."""
    rows = [_THINKING_BACK]
    if dialect.max_tokens != "either":
        rows.append(_MAX_COMPLETION if dialect.max_tokens == "max_tokens" else _MAX)
    if dialect.developer == "system":
        rows.append(_DEVELOPER)
    if dialect.content == "text":
        rows.append(_TEXT)
    if dialect.turns != "any":
        rows.append(_ANSWERED if dialect.turns == "answered" else _ALTERNATING)
    return tuple(rows)


def meant_by(reply: UpstreamReply, table: Sequence[Repair] = TABLE) -> list[Repair]:
    """The rows of the table that this refusal may mean, the likeliest first."""
    if reply.status not in (400, 422):
        return []
    found = read_refusal(reply.body)
    text = f"{found.message} '{found.param or ''}' '{found.code or ''}'"
    return [row for row in table if row.is_meant(text)]


def repaired(
    body: bytes, rows: Sequence[Repair], dialect: Dialect, model: str | None = None
) -> tuple[bytes, list[str]]:
    """A JSON body after `rows`, and the names of those that changed it; `model` replaces its own.

    The very same bytes where nothing changes: a body that needs no row is not even parsed.
    """
    if not rows and model is None:
        return body, []
    # A name may be written with escapes, of which the first 256 characters begin like this.
    hides = b"\\u00" in body
    rows = [row for row in rows if hides or any(needle in body for needle in row.needles)]
    if not rows and model is None:
        return body, []
    members: edits.Body = dict(read_members(body))
    names = [row.name for row in rows if row.edit(members, dialect)]
    if not names and model is None:
        return body, []
    if model is not None:
        members["model"] = Raw(msgspec.json.encode(model))
    return msgspec.json.encode(members), names


class Memory:
    """What one worker has learned of the models of one host."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[int, tuple[Repair, ...]]] = {}

    def rows(self, address: str, model: str, now: int) -> tuple[Repair, ...]:
        """The repairs that are known to be needed; `now` is Unix seconds."""
        until, rows = self.kept.get((address, model), (0, ()))
        return rows if until > now else ()

    def keep(self, address: str, model: str, rows: Sequence[Repair], now: int) -> None:
        """From now on these, for an hour. The oldest are forgotten where there are too many."""
        self.kept.pop((address, model), None)
        while len(self.kept) >= _MOST_KEPT:
            del self.kept[next(iter(self.kept))]
        lasting = tuple(row for row in rows if row.lasts)
        self.kept[address, model] = now + _KEEP_SECONDS, lasting
