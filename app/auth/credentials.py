"""Upstream credentials that callers send in request headers."""

from collections.abc import Mapping, Sequence

from app.wire.errors import GatewayError

# What users type where an SDK insists on a key though the gateway has one: not a credential.
PLACEHOLDERS = frozenset({"", "pool", "none", "empty"})


def bare_token(value: str) -> str:
    """The credential in a header value, without `Bearer `; "" for a placeholder."""
    value = value.strip()
    if value[:7].lower() == "bearer ":
        value = value[7:].strip()
    elif value.lower() == "bearer":
        return ""
    return "" if value.lower() in PLACEHOLDERS else value


# How browsers send a key, which cannot set the headers of a websocket: as a subprotocol.
KEY_PROTOCOL = "openai-insecure-api-key."
PROTOCOLS = "sec-websocket-protocol"


def subprotocols(value: str) -> tuple[list[str], list[str]]:
    """The subprotocols of a `Sec-WebSocket-Protocol` header, and the keys among them."""
    names, keys = [], []
    for name in (part.strip() for part in value.split(",")):
        if name.startswith(KEY_PROTOCOL):
            keys.append(name.removeprefix(KEY_PROTOCOL))
        elif name:
            names.append(name)
    return names, keys


def callers_own(headers: Mapping[str, str], accepts: Sequence[str]) -> str:
    """The caller's upstream credential: from the first of the `accepts` headers that has one, else
    ""."""
    for name in accepts:
        value = headers.get(name)
        if value is not None and (token := bare_token(value)):
            return token
    return ""


# How keys begin, and whose they are; the first that fits counts.
_HOUSES = (
    ("sk-ant-", "claude"),
    ("AIza", "gemini"),
    ("AQ.", "gemini"),
    ("ya29.", "gemini"),
    ("sk-", "openai"),
)
_VENDORS = frozenset(("claude", "gemini"))
# By family: headers in which another house's key stands. An OpenAI-compatible upstream may look for
# its own in any of them.
FOREIGN_HEADERS = {
    "openai": frozenset(("x-api-key", "x-goog-api-key")),
    "claude": frozenset(("x-goog-api-key",)),
    "gemini": frozenset(("x-api-key",)),
}


def check_house(token: str, family: str, house: str) -> None:
    """Raises GatewayError 401 where a caller's own key would reach another house than its own.

    `family` is whom the caller asks, `house` whose API the caller speaks. OpenAI's API is spoken by
    many houses, whose keys look alike.
    """
    owner = next((owner for start, owner in _HOUSES if token.startswith(start)), None)
    if house == "openai":
        wrong = owner in _VENDORS and family in _VENDORS and owner != family
    elif owner == "openai":
        wrong = family in _VENDORS
    else:
        wrong = family != (owner or house)
    if wrong:
        raise GatewayError(
            401,
            f"The key that was sent is not one of {family}'s, and the gateway sends it nowhere "
            f"else; send a key of {family}'s, an access token of the gateway, or the word `pool` "
            "for the gateway's own keys.",
            code="foreign_api_key",
            headers=(("x-should-retry", "false"),),
        )
