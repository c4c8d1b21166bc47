"""Writes prices.json anew from two public lists, both under the MIT licence. Asks no network.

    python -m app.accounting.renew_prices \
        --genai-prices prices/new_data/v2/data_slim.json --version 0.2.3 \
        --models-dev models.dev/providers --commit f3fc692

The first file is of https://github.com/pydantic/genai-prices, the folder of
https://github.com/sst/models.dev; download them first. The first list wins; the second fills in
upstreams and models that it lacks. Only upstreams that a preset or a built-in family reaches are
kept, under their names here. NOTICE-prices.txt holds the licences.

Of prices that change over time those of --date count, of prices that depend on the time of day the
dearest. Batch, flex and priority tariffs are left out, and so are models without a price by the
token. Subscriptions and trials, whose tokens cost nothing, are not among the sources.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from app.accounting.prices import COLUMNS, FILE, Table

# Table -> where its prices stand in genai-prices, and in models.dev.
SOURCES: dict[str, tuple[str, str]] = {
    "openai": ("openai", "openai"),
    "claude": ("anthropic", "anthropic"),
    "gemini": ("google", "google"),
    "azure": ("azure", "azure"),
    "bedrock": ("aws", "amazon-bedrock"),
    "cerebras": ("cerebras", "cerebras"),
    "cohere": ("cohere", "cohere"),
    "dashscope": ("", "alibaba"),
    "dashscope-cn": ("", "alibaba-cn"),
    "deepseek": ("deepseek", "deepseek"),
    "fireworks": ("fireworks", "fireworks-ai"),
    "groq": ("groq", "groq"),
    "huggingface": ("", "huggingface"),
    "mistral": ("mistral", "mistral"),
    "moonshot": ("moonshotai", "moonshotai"),
    "moonshot-cn": ("", "moonshotai-cn"),
    "novita": ("novita", "novita-ai"),
    "openrouter": ("openrouter", "openrouter"),
    "perplexity": ("perplexity", "perplexity"),
    "siliconflow": ("", "siliconflow-cn"),
    "siliconflow-global": ("", "siliconflow"),
    "together": ("together", "togetherai"),
    "xai": ("x-ai", "xai"),
    "zai": ("zai", "zai"),
    "zhipu": ("zhipuai", "zhipuai"),
}
# COLUMNS, as each source calls them. genai-prices counts requests by the thousand.
_GENAI = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "output_reasoning_mtok",
    "input_audio_mtok",
    "output_audio_mtok",
    "requests_kcount",
)
_MODELS_DEV = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "",
    "reasoning",
    "input_audio",
    "output_audio",
    "",
)
_REQUEST = COLUMNS.index("request")

Steps = list[list[float | None]]


def main(arguments: list[str]) -> int:
    """Writes the file and says what is in it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.accounting.renew_prices")
    parser.add_argument("--genai-prices", type=Path, required=True)
    parser.add_argument("--version", required=True, help="of genai-prices")
    parser.add_argument("--models-dev", type=Path, required=True)
    parser.add_argument("--commit", required=True, help="of models.dev")
    parser.add_argument("--date", type=date.fromisoformat, default=date.today())
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args(arguments)
    genai = {each["id"]: each for each in json.loads(asked.genai_prices.read_bytes())}
    tables = {}
    for name, (first, second) in SOURCES.items():
        rows = _without_doubles(dict(_of_genai(genai[first], asked.date)) if first else {})
        for model, steps in _of_models_dev(asked.models_dev / second):
            if Table(_raw(rows)).find(model) is None:
                rows[model] = steps
        tables[name] = rows
    lines = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(
            f"   {json.dumps(model)}: {json.dumps(steps, separators=(',', ':'))}"
            for model, steps in sorted(rows.items())
        )
        + "\n  }"
        for name, rows in tables.items()
    ]
    made_of = {
        "genai-prices": asked.version,
        "models.dev": asked.commit,
        "date": asked.date.isoformat(),
    }
    asked.out.write_text(
        f'{{\n "made_of": {json.dumps(made_of)},\n "tables": {{\n' + ",\n".join(lines) + "\n }\n}\n"
    )
    print(f"{sum(map(len, tables.values()))} models of {len(tables)} upstreams in {asked.out}")
    return 0


def _of_genai(provider: dict[str, Any], day: date) -> Iterator[tuple[str, Steps]]:
    """Names, patterns and their steps of one provider of genai-prices."""
    for model in provider["models"]:
        steps = _steps_of_genai(model["prices"], day)
        if steps is not None:
            for name in (model["id"], *_patterns(model["match"])):
                yield name.lower(), steps


def _patterns(match: dict[str, Any]) -> Iterator[str]:
    """What a clause matches, as names with *. A regular expression is left out: those are of dates,
    which are told apart here anyway, or make an exception, for which a longer name stands."""
    for kind, value in match.items():
        match kind:
            case "or" | "and":
                for clause in value:
                    yield from _patterns(clause)
            case "equals":
                yield value
            case "starts_with":
                yield f"{value}*"
            case "ends_with":
                yield f"*{value}"
            case "contains":
                yield f"*{value}*"


def _steps_of_genai(prices: Any, day: date) -> Steps | None:
    """The steps that hold on this day; None without a price by the token."""
    valid: list[Steps] = []
    for entry in prices if isinstance(prices, list) else [{"prices": prices}]:
        constraint = entry.get("constraint") or {}
        if date.fromisoformat(constraint.get("start_date", "0001-01-01")) > day:
            continue
        if "start_time" not in constraint:
            valid = []  # a later entry replaces those before it
        valid.append(_columns_of_genai(entry["prices"]))
    dearest = max(valid, key=lambda steps: [each or 0 for each in reversed(steps[0][:3])])
    return None if _is_empty(dearest) else dearest


def _columns_of_genai(prices: dict[str, Any]) -> Steps:
    if not prices:
        return [[0, 0, 0]]  # a free model's
    starts = {0}
    for price in prices.values():
        starts |= {tier["start"] for tier in price["tiers"]} if isinstance(price, dict) else set()
    steps: Steps = []
    for start in sorted(starts):
        columns = [_at(prices.get(name), start) for name in _GENAI]
        if columns[1] is None and "output_image_mtok" in prices:
            columns[1] = _at(prices["output_image_mtok"], start)  # it answers pictures only
        if (thousand := columns[_REQUEST]) is not None:
            columns[_REQUEST] = thousand * 1000
        steps.append(_trimmed([start, *columns]))
    return steps


def _at(price: Any, start: int) -> float | None:
    """The price that holds above `start` prompt tokens."""
    if not isinstance(price, dict):
        return None if price is None else float(price)
    found = price["base"]
    for tier in price["tiers"]:
        if tier["start"] <= start:
            found = tier["price"]
    return float(found)


def _of_models_dev(folder: Path) -> Iterator[tuple[str, Steps]]:
    """Names and steps of one provider of models.dev."""
    for file in sorted((folder / "models").rglob("*.toml")):
        try:
            cost = tomllib.loads(file.read_text()).get("cost")
        except FileNotFoundError:
            continue  # a link to a model that this copy lacks
        if not cost or cost.get("input") is None:
            continue
        steps = [_trimmed([0, *(cost.get(name) for name in _MODELS_DEV)])]
        for tier in cost.get("tiers", ()):
            if size := tier["tier"].get("size"):
                columns = (tier.get(name, cost.get(name)) for name in _MODELS_DEV)
                steps.append(_trimmed([size, *columns]))
        name = file.relative_to(folder / "models").with_suffix("").as_posix()
        yield name.lower(), steps


def _is_empty(steps: Steps) -> bool:
    return all(len(step) < 2 or step[1] is None for step in steps)


def _trimmed(step: list[float | None]) -> list[float | None]:
    """The step without what is not said at its end, and whole numbers without their fraction."""
    while step[-1] is None and len(step) > 1:
        step = step[:-1]
    return [int(each) if each is not None and each == int(each) else each for each in step]


def _raw(rows: dict[str, Steps]) -> dict[str, Raw]:
    return {name: Raw(msgspec.json.encode(steps)) for name, steps in rows.items()}


def _without_doubles(rows: dict[str, Steps]) -> dict[str, Steps]:
    """The rows without names that the others lead to the same price."""
    kept = dict(rows)
    for name in sorted(rows, key=len, reverse=True):
        if "*" in name:
            continue
        steps = kept.pop(name)
        found = Table(_raw(kept)).find(name)
        if found is None or found != Table(_raw({name: steps})).find(name):
            kept[name] = steps
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
