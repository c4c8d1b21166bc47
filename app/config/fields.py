"""One field of the config: its type as declared in the schema, conversion from text, advice.

A field's type is called its hint. No message contains the text it is about: it may be a secret.
"""

import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address, ip_network
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from app.config.field_types import Section

_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
PORT = re.compile(rf"(?:(?P<host>{_HOST}|\[[0-9A-Fa-f:.]+\])?:)?(?P<port>[0-9]{{1,5}})")
_SCHEMES = {
    "http": ("http", "https"),
    "websocket": ("ws", "wss"),
    "proxy": ("http", "https", "socks5", "socks5h"),  # both resolve names at the proxy
    "redis": ("redis", "rediss"),
}
# Placeholders for secrets, as documentation has them.
SAMPLE = re.compile(
    r"(?i)(sk-|sk-ant-|aiza|bearer )?"
    r"([x*.]{3,}|<.*>|(your|my)[-_ ].*|change[-_ ]?(me|this)([-_ ].*)?"
    r"|(test|sample|example)([-_ ]?(key|token))?)"
)
_YAML_1_1_BOOL = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_TYPE_NAMES = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}


@cache
def field_hints(section: type[Section]) -> dict[str, Any]:
    """Field name -> hint."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name] for name in section.__struct_fields__}


def bare(hint: Any) -> Any:
    """The hint of a container without what stands around it: `| None`, a marker of a list."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) is list:
        hint = get_args(hint)[0]
    return hint


@cache
def required_fields(section: type[Section]) -> list[str]:
    """Names of the fields without a default."""
    return [field.name for field in msgspec.structs.fields(section) if field.required]


def leaves(value: Any, hint: Any) -> Iterator[tuple[Any, Any]]:
    """Every scalar below a config value, with its hint."""
    hint = bare(hint)
    if value is None:
        return
    if isinstance(value, Section):
        for name, inner in field_hints(type(value)).items():
            yield from leaves(getattr(value, name), inner)
    elif get_origin(hint) is list:
        for item in value:
            yield from leaves(item, get_args(hint)[0])
    elif get_origin(hint) is dict:
        for item in value.values():
            yield from leaves(item, get_args(hint)[1])
    else:
        yield value, hint


def _meta(hint: Any) -> msgspec.Meta:
    found: msgspec.Meta
    found = hint.__metadata__[0] if get_origin(hint) is Annotated else msgspec.Meta()
    return found


def extra(hint: Any) -> dict[str, Any]:
    """The markers of a field: `secret`, `check`, `zero_is_default`."""
    return _meta(hint).extra or {}


def has_password(hint: Any, text: str) -> bool:
    """Whether the text is an address with user name and password."""
    return extra(hint).get("check") in ("proxy", "redis", "ledger") and "@" in text


def described(section: type[Section], path: str) -> str | None:
    """What the field at a path such as `id` or `models[0]` accepts, in the words of its
    description; None where it has none."""
    hint: Any = section
    for step in re.findall(r"\w+", path):
        hint = get_args(hint)[0] if step.isdecimal() else field_hints(hint).get(step)
    return _meta(hint).description


def type_name(hint: Any) -> str:
    """What a field accepts, in words: "a whole number", "one of json, text"."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return _TYPE_NAMES[get_args(hint)[0] if get_origin(hint) is Annotated else hint]


def advice(name: str, hint: Any, separator: str = ": ") -> str:
    """A correct example: `write port: ":8999"`."""
    examples = _meta(hint).examples or [*get_args(hint), {bool: "true"}.get(hint, '"text"')]
    return f"write {name}{separator}{examples[0]}"


def convert(text: str, hint: Any) -> tuple[Any, str]:
    """Converts text to the field's value. Returns (value, "") or (None, what was expected)."""
    if hint is bool:
        text = _YAML_1_1_BOOL.get(text.lower(), text)
    try:
        value = msgspec.convert(text, hint, strict=False)
    except msgspec.ValidationError:
        value = None
    check = extra(hint).get("check")
    if value is None or (check and not _passes(check, text)):
        return None, f"expected {_meta(hint).description or type_name(hint)}"
    if value == 0 and extra(hint).get("zero_is_default"):
        return UNSET, ""
    return value, ""


def _passes(check: str, text: str) -> bool:
    if check == "port":
        port = PORT.fullmatch(text)
        return port is not None and 1 <= int(port["port"]) <= 65535
    if check == "host":
        return _is_host(text)
    if check == "network":
        return _is_network(text)
    if check == "token":
        return len(text) >= 16 and len(set(text)) >= 6 and not SAMPLE.fullmatch(text)
    if check == "ledger":
        return _is_ledger(text)
    try:  # the characters first: urlsplit silently drops tabs and line breaks
        parts = urlsplit(text) if re.fullmatch(r"[!-\[\]-~]+", text) else urlsplit("")
        good = (
            parts.scheme in _SCHEMES[check] and parts.port != 0 and _is_host(parts.hostname or "")
        )
    except ValueError:
        return False
    if parts.netloc.endswith(":") or "?" in text or "#" in text:
        return False
    if check == "redis":
        return good and re.fullmatch(r"(/\d{0,5})?", parts.path) is not None
    return good and (parts.path in ("", "/") if check == "proxy" else "@" not in parts.netloc)


def _is_ledger(text: str) -> bool:
    """A file's path, "off", or PostgreSQL's address, with its password before the @ only: what
    stands in the query is not known to be a secret."""
    if "://" not in text:
        return bool(text)
    try:
        parts = urlsplit(text) if re.fullmatch(r"[!-~]+", text) else urlsplit("")
        return parts.scheme in ("postgresql", "postgres") and (
            parts.port != 0 and "#" not in text and "password" not in parts.query
        )
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    try:
        return bool(re.fullmatch(_HOST, text) or ip_address(text.strip("[]")))
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        return bool(ip_network(text, strict=False))
    except ValueError:
        return False
