"""Which model a raw request is for, as far as a token's `models` must know it.

Only for callers whose token names models: everybody else's requests are passed on unread. What two
JSON readers could understand differently counts as naming no model.
"""

import json
import re
from typing import Any
from urllib.parse import unquote

from app.wire.chat import not_json
from app.wire.errors import bad_request

_IN_PATH = re.compile(r"(?:\A|/)((?:tuned)?[mM]odels/[^/:]+)").search
_LIST = re.compile(r"(?:[^/]+/)?models(?:/[^/:]+)?/?").fullmatch


def is_only_a_list(method: str, path: str) -> bool:
    """Telling which models there are, or about one of them: nothing is asked of any."""
    return method in ("GET", "HEAD") and _LIST(path) is not None


def in_path(path: str) -> str | None:
    """Gemini's way: .../models/gemini-2.5-flash:generateContent."""
    found = _IN_PATH(unquote(path))
    return found[1].removeprefix("models/") if found else None


def in_body(body: bytes) -> str | None:
    """The top-level member `model` of a JSON object."""
    try:
        found = json.loads(
            body, object_pairs_hook=_Members, parse_int=_nothing, parse_float=_nothing
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, _Members) or _repeated(found, ("model",)):
        return None
    model = dict(found).get("model")
    return model if isinstance(model, str) else None


def check_said_once(body: bytes, *names: str) -> None:
    """Raises GatewayError 400 where a member stands twice, or in other letters as well."""
    try:
        found = json.loads(
            body, object_pairs_hook=_Members, parse_int=_nothing, parse_float=_nothing
        )
    except (ValueError, RecursionError) as error:
        raise not_json(body, error) from None
    if isinstance(found, _Members) and (name := _repeated(found, names)):
        raise bad_request(f"The body holds more than one {name}; send one.", param=name)


def _read(body: bytes) -> Any:
    return json.loads(body, object_pairs_hook=_Members, parse_int=_nothing, parse_float=_nothing)


class _Members(list[tuple[str, Any]]):
    """An object's members, those that stand twice included."""


def _nothing(number: str) -> None:
    """A number of a million digits takes a second to understand."""


def _repeated(members: _Members, names: tuple[str, ...]) -> str | None:
    for name in names:
        written = [key for key, _ in members if key.lower() == name]
        if len(written) > 1 or (written and written[0] != name):
            return name
    return None
