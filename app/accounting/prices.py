"""What an answer costs, by the tokens that it counts: the shipped list and the config's `prices`.

Money is a whole number of nano-USD (1e-9 USD). A cost that is not known is None, never 0. What an
upstream says itself wins over every list.

The list is prices.json beside this file, written by renew_prices.py: a table for each upstream,
from a model's name to steps. A step is the number of prompt tokens above which it holds, and USD
per million in the order of COLUMNS, None where there is no such price. A * in a name stands for any
characters; names are lower case.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from app.config.presets import BY_NAME, PRESETS
from app.config.schema import Config, ModelPrice, Upstream
from app.telemetry.call_log import CallRecord
from app.wire.events import Usage

FILE = Path(__file__).with_name("prices.json")

# The prices of a step, in USD per million tokens (`request`: per million requests).
COLUMNS = (
    "input",
    "output",
    "cached",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio",
    "audio_output",
    "request",
)
_PICO_PER_UNIT = 1_000_000  # 1 USD per million tokens is 1e-6 USD each: 1e6 pico-USD
_MOST_FOUND = 4096  # callers choose the models' names, so what was found for them is bounded

# Whose tables are searched, where it is not just the upstream's own. The first that knows wins.
_SEARCHED: dict[str, tuple[str, ...]] = {
    "gemini-openai": ("gemini",),
    "vertex": ("gemini",),
    **dict.fromkeys(
        ("azure", "azure-deployments", "azure-foundry"),
        ("azure", "openai", "claude", "deepseek", "xai", "moonshot"),
    ),
}
# Upstreams of the gateway's own whose calls are billed by the token.
_BILLED = {"openai-api": "openai", "claude-api": "claude", "gemini-api": "gemini"}
# An aggregator's vendor names -> tables. OpenRouter sells at the vendors' prices.
_VENDORS = {
    "anthropic": "claude",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "google": "gemini",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "openai": "openai",
    "perplexity": "perplexity",
    "qwen": "dashscope",
    "x-ai": "xai",
    "z-ai": "zai",
}
_AGGREGATOR = "openrouter"
_SHORTCUT = re.compile(r":(?!free$)[a-z]+$")  # OpenRouter's :nitro, :floor, :online ...
# Of a dated name: claude-sonnet-4-5-20250929, gpt-4o-2024-11-20, claude-opus-4@20250514, x-latest.
_DATE = re.compile(r"(?:[-@]20\d\d-?\d\d-?\d\d|-latest)$")


Counted = Usage | CallRecord  # they have the same names for what they count


class Price(Struct, frozen=True):
    """The price of a model: `steps[n + 1]` holds above `above[n]` prompt tokens, for all of a call,
    and `steps[0]` up to the first of them.

    A step has pico-USD per token in the order of COLUMNS; None where there is no such price.
    """

    above: tuple[int, ...]
    steps: tuple[tuple[int | None, ...], ...]

    def estimate(self, prompt_tokens: int, answer_tokens: int) -> int:
        """What so many fresh tokens and an answer are likely to cost, in nano-USD."""
        step = self.steps[bisect_left(self.above, prompt_tokens)]
        return (prompt_tokens * (step[0] or 0) + answer_tokens * (step[1] or 0)) // 1000

    def cost(self, usage: Counted) -> int | None:
        """The cost of an answer in nano-USD; None where it counts what has no price here."""
        prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
        cached, written = usage.cached_tokens, usage.cache_write_tokens or 0
        step = self.steps[bisect_left(self.above, prompt)]
        fresh_at, answered_at, each = step[0], step[1], step[-1]
        if not (
            cached
            or written
            or usage.reasoning_tokens
            or usage.audio_tokens
            or usage.completion_audio_tokens
        ):  # most answers
            if fresh_at is None or (answered_at is None and completion):
                return None
            pico = prompt * fresh_at + completion * (answered_at or 0) + (each or 0)
            return (pico + 500) // 1000
        cached_at, written_at, hour_at, thought_at, heard_at, said_at = step[2:-1]
        hour = min(usage.cache_write_1h_tokens, written)
        heard = usage.audio_tokens if heard_at is not None else 0
        heard = min(heard, max(prompt - cached - written, 0))
        fresh = max(prompt - cached - written - heard, 0)
        thought = min(usage.reasoning_tokens, completion) if thought_at is not None else 0
        said = usage.completion_audio_tokens if said_at is not None else 0
        said = min(said, completion - thought)
        if fresh_at is None or (answered_at is None and completion > thought + said):
            return None
        if cached_at is None:
            cached_at = fresh_at
        if written_at is None:
            written_at = fresh_at
        pico = (
            fresh * fresh_at
            + cached * cached_at
            + (written - hour) * written_at
            + hour * (written_at if hour_at is None else hour_at)
            + heard * (heard_at or 0)
            + (completion - thought - said) * (answered_at or 0)
            + thought * (thought_at or 0)
            + said * (said_at or 0)
            + (each or 0)
        )
        return (pico + 500) // 1000


class Table:
    """The prices of one upstream, by names and patterns; decoded when they are first asked for."""

    def __init__(self, rows: Mapping[str, Raw | Price]) -> None:
        self._rows = dict(rows)
        # Of those that match, the one with the longest literal part counts.
        self._patterns = [
            (name, name.split("*"))
            for name in sorted(rows, key=lambda name: (-len(name), name))
            if "*" in name
        ]

    def find(self, model: str) -> Price | None:
        """The price of a model, by its name in lower case; None if it is not known."""
        for name in (model, _DATE.sub("", model)):
            if name in self._rows:
                return self._price(name)
        for pattern, parts in self._patterns:
            if _fits(model, parts):
                return self._price(pattern)
        return None

    def _price(self, name: str) -> Price:
        row = self._rows[name]
        if isinstance(row, Price):
            return row
        found = self._rows[name] = price_of(_steps(row))
        return found


def _fits(model: str, parts: Sequence[str]) -> bool:
    """Whether the name has these parts in this order, with anything between them. Not by fnmatch:
    to compile hundreds of patterns takes 100 ms."""
    first, *middle, last = parts
    at, end = len(first), len(model) - len(last)
    if at > end or not (model.startswith(first) and model.endswith(last)):
        return False
    for part in middle:
        found = model.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class _List(Struct):
    """prices.json."""

    tables: dict[str, dict[str, Raw]]


_steps = msgspec.json.Decoder(list[list[float | None]]).decode


def price_of(steps: Iterable[list[float | None]]) -> Price:
    """A price of its steps as prices.json has them."""
    above, whole = [], []
    for start, *prices in sorted(steps, key=lambda step: step[0] or 0):
        above.append(int(start or 0))
        values = [None if each is None else round(each * _PICO_PER_UNIT) for each in prices]
        whole.append((*values, *(None,) * (len(COLUMNS) - len(values))))
    return Price(tuple(above[1:]), tuple(whole))


class Prices:
    """The prices of one worker: those of the config, else of the shipped list, which is read when
    it is first needed."""

    def __init__(self, config: Config, file: Path = FILE) -> None:
        self._file = file
        self._own = {
            name: Table({model.lower(): _own_price(price) for model, price in models.items()})
            for name, models in config.prices.items()
        }
        self._presets = {each.name: _preset_of(each) for each in config.upstreams}
        self._tables: dict[str, Table] | None = None
        self._found: dict[tuple[str, str], Price | None] = {}

    def cost(self, provider: str, model: str, usage: Counted) -> int | None:
        """What an answer of `model` costs in nano-USD; None where that is not known.

        `provider` and `model` are as the call log has them.
        """
        if usage.cost is not None:
            return usage.cost
        price = self.find(provider, model)
        return None if price is None else price.cost(usage)

    def find(self, provider: str, model: str) -> Price | None:
        """The price of a provider's model, None if it is not known."""
        key = (provider, model)
        try:
            return self._found[key]
        except KeyError:
            pass
        if len(self._found) >= _MOST_FOUND:
            self._found.clear()
        found = self._found[key] = self._look(provider, model.lower().removeprefix("models/"))
        return found

    def _look(self, provider: str, model: str) -> Price | None:
        name = _BILLED.get(provider, provider)
        own = self._own.get(name)
        if own is not None and (found := own.find(model)) is not None:
            return found
        preset = self._presets.get(name, name)
        for each in _SEARCHED.get(preset, (preset,)):
            if (found := self._listed(each, model)) is not None:
                return found
        if preset != _AGGREGATOR:
            return None
        bare = _SHORTCUT.sub("", model)
        vendor, _, rest = bare.partition("/")
        found = self._listed(preset, bare)
        return found or self._listed(_VENDORS.get(vendor, ""), rest)

    def _listed(self, name: str, model: str) -> Price | None:
        if self._tables is None:
            raw = msgspec.json.decode(self._file.read_bytes(), type=_List).tables
            self._tables = {each: Table(rows) for each, rows in raw.items()}
        table = self._tables.get(name)
        return None if table is None else table.find(model)


_HOSTS = {urlsplit(each.api_url).hostname: each.name for each in reversed(PRESETS) if each.api_url}


def _preset_of(upstream: Upstream) -> str:
    """The preset whose prices an entry of `upstreams` has: its name's, else its host's."""
    preset = BY_NAME.get(upstream.name)
    if preset is not None:
        return preset.name
    return _HOSTS.get(urlsplit(upstream.api_url).hostname, upstream.name)


def _own_price(price: ModelPrice) -> Price:
    """A price of the config; what a step leaves out is as below it."""
    steps = [[0, *(getattr(price, name) for name in COLUMNS)]]
    for step in sorted(price.steps, key=lambda step: step.above):
        before = steps[-1][1:]
        given = (getattr(step, name) for name in COLUMNS)
        steps.append(
            [step.above, *(b if g is None else g for g, b in zip(given, before, strict=True))]
        )
    return price_of(steps)
