"""Upstream credentials that callers send in request headers."""

from collections.abc import Mapping, Sequence

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


def callers_own(headers: Mapping[str, str], accepts: Sequence[str]) -> str:
    """The caller's upstream credential: from the first of the `accepts` headers that has one, else
    ""."""
    for name in accepts:
        value = headers.get(name)
        if value is not None and (token := bare_token(value)):
            return token
    return ""
