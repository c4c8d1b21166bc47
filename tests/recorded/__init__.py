"""Recorded upstream answers, read by tests and replayed by the simulator."""

import json
from pathlib import Path
from typing import Any


def recorded(family: str) -> Path:
    """The folder of a family's recordings."""
    return Path(__file__).parent / family


def requests_of_clients() -> dict[str, dict[str, Any]]:
    """The recorded calls of POST /c/v1/messages by name, each `{"path", "headers", "body"}`."""
    found = {}
    for folder in ("claude-code", "messages-clients"):
        for file in sorted(recorded(folder).glob("*.json")):
            said = json.loads(file.read_bytes())
            for number, call in enumerate(said if isinstance(said, list) else [said]):
                if call["body"] is not None and "count_tokens" not in call["path"]:
                    found[f"{file.stem}-{number}" if isinstance(said, list) else file.stem] = call
    return found
