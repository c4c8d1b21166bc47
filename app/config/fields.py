"""What may stand in one field of the config, read from its type in app/config/schema.py.

`convert` turns text into the field's value or says what was expected; it never tells what was
there, for that may be a secret.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
PORT = re.compile(rf"(?:(?P<host>{_HOST}|\[[0-9A-Fa-f:.]+\])?:)?(?P<port>[0-9]{{1,5}})")
_SCHEMES = {
    "http": ("http", "https"),
    "websocket": ("ws", "wss"),
    "proxy": ("http", "https", "socks5", "socks5h"),  # both look names up at the proxy
    "redis": ("redis", "rediss"),
}
# What stands in documentation where a secret should be.
SAMPLE = re.compile(
    r"(?i)(sk-|sk-ant-|aiza|bearer )?"
    r"([x*.]{3,}|<.*>|(your|my)[-_ ].*|change[-_ ]?(me|this)([-_ ].*)?"
    r"|(test|sample|example)([-_ ]?(key|token))?)"
)
_YAML_1_1_BOOL = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_BASE_WORDS = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}


def _meta(hint: Any) -> msgspec.Meta:
    found: msgspec.Meta
    found = hint.__metadata__[0] if get_origin(hint) is Annotated else msgspec.Meta()
    return found


def extra(hint: Any) -> dict[str, Any]:
    return _meta(hint).extra or {}


def has_password(hint: Any, text: str) -> bool:
    """Whether this is an address with a user's name and password in it."""
    return extra(hint).get("check") in ("proxy", "redis") and "@" in text


def base_word(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return _BASE_WORDS[get_args(hint)[0] if get_origin(hint) is Annotated else hint]


def write(name: str, hint: Any, sign: str = ": ") -> str:
    examples = _meta(hint).examples or [*get_args(hint), {bool: "true"}.get(hint, '"text"')]
    return f"write {name}{sign}{examples[0]}"


def convert(text: str, hint: Any) -> tuple[Any, str]:
    """The value and "", or None and what was expected. Never tells what was there."""
    if hint is bool:
        text = _YAML_1_1_BOOL.get(text.lower(), text)
    try:
        value = msgspec.convert(text, hint, strict=False)
    except msgspec.ValidationError:
        value = None
    check = extra(hint).get("check")
    if value is None or (check and not _is(check, text)):
        return None, f"expected {_meta(hint).description or base_word(hint)}"
    if value == 0 and extra(hint).get("zero_is_default"):
        return UNSET, ""
    return value, ""


def _is(what: str, text: str) -> bool:
    if what == "port":
        port = PORT.fullmatch(text)
        return port is not None and 1 <= int(port["port"]) <= 65535
    if what == "host":
        return _is_host(text)
    if what == "network":
        return _is_network(text)
    if what == "token":
        return len(text) >= 16 and len(set(text)) >= 6 and not SAMPLE.fullmatch(text)
    try:  # the signs first: urlsplit drops tabs and line breaks without a word
        parts = urlsplit(text) if re.fullmatch(r"[!-\[\]-~]+", text) else urlsplit("")
        good = parts.scheme in _SCHEMES[what] and parts.port != 0 and _is_host(parts.hostname or "")
    except ValueError:
        return False
    if parts.netloc.endswith(":") or "?" in text or "#" in text:
        return False
    if what == "redis":
        return good and re.fullmatch(r"(/\d{0,5})?", parts.path) is not None
    return good and (parts.path in ("", "/") if what == "proxy" else "@" not in parts.netloc)


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
