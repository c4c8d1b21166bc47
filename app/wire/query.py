"""The query of a request's target as its caller spelled it: what stays of it keeps its bytes."""

from collections.abc import Collection
from urllib.parse import unquote_plus, unquote_to_bytes


def parameter_name(part: str) -> str:
    """The decoded name of one `name=value`."""
    return unquote_to_bytes(part.partition("=")[0].replace("+", " ")).decode("latin-1")


def without(query: str, names: Collection[str]) -> str:
    """The query without the parameters of these names."""
    parts = query.split("&")
    kept = [part for part in parts if parameter_name(part) not in names]
    return query if len(kept) == len(parts) else "&".join(kept)


def first_value(query: str, name: str) -> str:
    """The decoded value of the first parameter of this name, "" for none."""
    for part in query.split("&"):
        if parameter_name(part) == name:
            return unquote_plus(part.partition("=")[2])
    return ""
