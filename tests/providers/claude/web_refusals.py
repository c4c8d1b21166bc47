"""Refusals of claude.ai, made up in its own shapes."""

import json
from typing import Any


def exceeded(**more: Any) -> dict[str, Any]:
    inner = {"type": "exceeded_limit", "resetsAt": 1755806400, "remaining": None} | more
    return {"type": "error", "error": {"type": "rate_limit_error", "message": json.dumps(inner)}}


def error(kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}}
