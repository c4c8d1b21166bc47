"""Types of config fields, and the structs that every section and credential is derived from.

A type also documents its field: `description` and `examples` become the sentence that is shown for
a mistake, `extra` names a check or marks a secret (see app/config/fields.py).
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

# \A and \Z: `$` would accept a line break at the end, and these values travel in headers.
_HEADER_SAFE = r"\A[!-~](?:[ -~]*[!-~])?\Z"

Id = Annotated[
    str,
    Meta(
        pattern=_HEADER_SAFE,
        max_length=128,
        description="up to 128 visible ASCII characters (it travels in the header x-auth-id)",
        examples=['"10001"'],
    ),
]
TokenId = Annotated[
    str,
    Meta(
        pattern=r"\A(?!\(console\)\Z)[!-~](?:[ -~]*[!-~])?\Z",
        max_length=128,
        description="up to 128 visible ASCII characters, other than (console), which is the "
        "console's playground",
        examples=["alice"],
    ),
]
Secret = Annotated[
    str,
    Meta(
        pattern=_HEADER_SAFE,
        description="visible ASCII characters without a line break (it travels in a header)",
        examples=["${NAME_OF_A_VARIABLE}"],
        extra={"secret": True},
    ),
]
Name = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z",
        description="letters, digits, dots and dashes (it becomes part of an address or a header)",
        examples=['"2023-06-01"'],
    ),
]
HttpUrl = Annotated[
    str,
    Meta(
        description="an http:// or https:// address: host, port and path if need be, no query, "
        "no password",
        examples=["https://host.example"],
        extra={"check": "http"},
    ),
]
WebsocketUrl = Annotated[
    str,
    Meta(
        description="a ws:// or wss:// address: host, port and path if need be, no query, "
        "no password",
        examples=["wss://host.example"],
        extra={"check": "websocket"},
    ),
]
ProxyUrl = Annotated[
    str,
    Meta(
        description="a proxy's address: http://, https://, socks5:// or socks5h://, then "
        "[user:password@]host:port",
        examples=["http://127.0.0.1:1080"],
        extra={"check": "proxy"},
    ),
]
Port = Annotated[
    str,
    Meta(
        description="a port from 1 to 65535, with or without an address before it",
        examples=['":8999"', "127.0.0.1:8999"],
        extra={"check": "port"},
    ),
]
LocalPort = Annotated[
    int, Meta(gt=0, lt=65536, description="a port from 1 to 65535", examples=["8997"])
]
Host = Annotated[
    str,
    Meta(
        description="an address of this machine, without a port",
        examples=["127.0.0.1", "0.0.0.0"],  # noqa: S104 (an example, not a socket)
        extra={"check": "host"},
    ),
]
Seconds = Annotated[
    float, Meta(gt=0, le=86400, description="seconds, above 0 and up to 86400", examples=["30"])
]
# The Go project reads 0 here as "the default".
HoursOr0 = Annotated[
    float,
    Meta(ge=0, le=8784, description="hours, 0 for none", examples=["24"]),
]
SecondsOr0 = Annotated[
    float,
    Meta(
        ge=0,
        le=86400,
        description="seconds up to 86400, or 0 for the default",
        examples=["300"],
        extra={"zero_is_default": True},
    ),
]
SecondsOrOff = Annotated[
    float,
    Meta(ge=0, le=86400, description="seconds up to 86400, or 0 for never", examples=["8"]),
]
Bytes = Annotated[
    int, Meta(gt=0, le=2**53, description="a whole number of bytes above 0", examples=["33554432"])
]
Places = Annotated[
    int, Meta(gt=0, le=1_000_000, description="a whole number above 0", examples=["1000"])
]
PlacesOr0 = Annotated[
    int,
    Meta(ge=0, le=1_000_000, description="a whole number, or 0 for none", examples=["500"]),
]
LimitOr0 = Annotated[
    int,
    Meta(ge=0, le=2**31, description="a whole number, or 0 for no limit", examples=["60"]),
]
Token = Annotated[
    str,
    Meta(
        pattern=r"\A[!-~]*\Z",
        max_length=1024,
        description="at least 16 visible ASCII characters without a space, 6 different ones among "
        "them, no sample (python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one)",
        examples=["${NAME_OF_A_VARIABLE}"],
        extra={"secret": True, "check": "token"},
    ),
]
Network = Annotated[
    str,
    Meta(
        description="an address or a network of addresses",
        examples=["127.0.0.1", "10.0.0.0/8"],
        extra={"check": "network"},
    ),
]
Pattern = Annotated[
    str,
    Meta(
        pattern=_HEADER_SAFE,
        max_length=128,
        description="a model's name, in which * matches any characters",
        examples=['"gpt-4o*"'],
    ),
]
Count = Annotated[
    int,
    Meta(ge=0, le=1000, description="a whole number from 0 to 1000", examples=["1"]),
]
PerMinute = Annotated[
    int,
    Meta(
        ge=0,
        le=2**40,
        description="a whole number, 0 for no limit",
        examples=["60"],
    ),
]
RedisUrl = Annotated[
    str,
    Meta(
        description="a Redis server's address: redis:// or rediss://, then "
        "[user:password@]host[:port][/number]",
        examples=["redis://127.0.0.1:6379/0"],
        extra={"check": "redis"},
    ),
]
Ledger = Annotated[
    str,
    Meta(
        description="a file, a PostgreSQL server's address (postgresql://, then "
        "[user:password@]host[:port]/database), or off",
        examples=["data/usage.db", "postgresql://host.example/gateway", "off"],
        extra={"check": "ledger"},
    ),
]
Days = Annotated[
    int,
    Meta(gt=0, le=36_500, description="a whole number of days above 0", examples=["30"]),
]
ModelName = Annotated[
    str,
    Meta(
        pattern=_HEADER_SAFE,
        max_length=256,
        description="a model's name, with its provider before it if need be",
        examples=["claude/claude-sonnet-4-5"],
    ),
]
# A name alone is a list of one.
OneOrMoreModels = Annotated[list[ModelName], Meta(extra={"one_or_more": True})]
UpstreamName = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z][a-z0-9._-]{0,31}\Z",
        description="up to 32 small letters, digits, dots, dashes and underscores, a letter first "
        "(it stands before a model's name)",
        examples=["lab"],
    ),
]
UsdOr0 = Annotated[float, Meta(ge=0, le=1e6, description="USD, or 0 for no limit", examples=["5"])]
TokensOr0 = Annotated[
    int,
    Meta(
        ge=0,
        le=2**50,
        description="a whole number of tokens, or 0 for no limit",
        examples=["1000000"],
    ),
]
UsdPerMillion = Annotated[
    float,
    Meta(ge=0, le=1e9, description="USD per million, 0 for free", examples=["2.5"]),
]
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z",
        max_length=128,
        description="the name of a header",
        examples=["HTTP-Referer"],
    ),
]
HeaderValue = Annotated[
    str,
    Meta(
        pattern=_HEADER_SAFE,
        description="visible ASCII characters without a line break (it travels in a header)",
        examples=["https://app.example"],
        extra={"secret": True},
    ),
]
MemberName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z",
        max_length=64,
        description="the name of a member of the request's body",
        examples=["service_tier"],
    ),
]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping of the config file. Unknown keys in it are reported as mistakes.

    A section with a `short_form` may be written as text alone, which is the value of that field.
    """

    short_form: ClassVar[str] = ""


class Credential(Section, frozen=True):
    """An entry of a list of API keys or web sessions, with its limits over all workers; 0: none."""

    id: Id
    val: Secret
    max_concurrent: Count = 0  # concurrent calls
    rpm: PerMinute = 0  # requests per minute
    tpm: PerMinute = 0  # tokens per minute, prompt and completion
