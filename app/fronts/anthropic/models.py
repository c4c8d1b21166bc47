"""Lists of models as Anthropic's SDKs and Claude Code read them.

Claude Code keeps only ids that hold `claude` or `anthropic`: to it the models of others are shown
behind `anthropic/`, which is taken off again when one is asked for. Protocol sheet:
front-messages, 7.2.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.wire.errors import bad_request

_MOST, _USUAL = 1000, 20
_HOUSE = "claude"
_SHOWN_AS = "anthropic/"


def models_of(listed: list[dict[str, Any]], agent: str) -> list[dict[str, Any]]:
    """OpenAI model objects, each with its `provider`, as Anthropic's. `agent` is the caller's."""
    is_claude_code = agent.startswith("claude-code/")
    return [_model(entry, is_claude_code) for entry in listed]


def page_of(models: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page. Raises GatewayError 400 for a limit outside 1..1000."""
    said = query.get("limit", str(_USUAL))
    limit = int(said) if said.isdecimal() and len(said) < 6 else 0
    if not 1 <= limit <= _MOST:
        raise bad_request(f"limit: must be between 1 and {_MOST}.", "limit")
    ids = [model["id"] for model in models]
    first, last = 0, len(ids)
    if (after := query.get("after_id")) in ids:
        first = ids.index(after) + 1
    if (before := query.get("before_id")) in ids:
        last = ids.index(before)
        first = max(first, last - limit)
    page = models[first:last][:limit]
    return {
        "data": page,
        "has_more": first + len(page) < last,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _model(entry: Mapping[str, Any], is_claude_code: bool) -> dict[str, Any]:
    house = entry["provider"]
    bare = entry["id"].removeprefix(f"{house}/")
    id = bare if house in (_HOUSE, "") else f"{house}/{bare}"
    name = bare
    if house not in (_HOUSE, ""):
        name = f"{bare} ({house.capitalize()})"
        if is_claude_code:
            id = _SHOWN_AS + id
    created = entry.get("created")
    at = datetime.fromtimestamp(created if isinstance(created, int) else 0, UTC)
    return {
        "type": "model",
        "id": id,
        "display_name": name,
        "created_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
