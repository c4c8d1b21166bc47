"""The whole shape of the config file as structs. `load.py` reads it and points at mistakes.

Every key of the Go project's etc/c.yaml is here under its own name; keys that are newer are
optional and have the default that serves most people. Field names are the file's.
A field's type also says what may stand in it: `description` and `examples` become the sentence a
person reads after a mistake, `extra` names a check or marks a secret.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

# \A and \Z: `$` would let a line break through at the end, and these travel in headers.
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
        description="a model's name, * standing for any signs in it",
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
ModelName = Annotated[
    str,
    Meta(
        pattern=_HEADER_SAFE,
        max_length=256,
        description="a model's name, with its provider before it if need be",
        examples=["claude/claude-sonnet-4-5"],
    ),
]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping of the file; an unknown key in it is a mistake, not silence."""


class KeyEntry(Section, frozen=True):
    id: Id
    val: Secret
    max_concurrent: Count = 0  # calls at a time, in all workers together; 0: any number
    rpm: PerMinute = 0  # requests per minute, likewise
    tpm: PerMinute = 0  # tokens per minute, asked and answered


class SessionEntry(Section, frozen=True):
    id: Id
    val: Secret
    max_concurrent: Count = 0  # calls at a time, in all workers together; 0: any number
    rpm: PerMinute = 0  # requests per minute, likewise
    tpm: PerMinute = 0  # tokens per minute, asked and answered


class GeminiKeyEntry(Section, frozen=True):
    id: Id
    val: Secret
    version: Name = ""
    max_concurrent: Count = 0  # calls at a time, in all workers together; 0: any number
    rpm: PerMinute = 0  # requests per minute, likewise
    tpm: PerMinute = 0  # tokens per minute, asked and answered


class ClaudeSessionEntry(Section, frozen=True):
    id: Id
    val: Secret
    organization_id: Name = ""
    max_concurrent: Count = 1  # calls at a time, in all workers together; 0: any number
    rpm: PerMinute = 0  # requests per minute, likewise
    tpm: PerMinute = 0  # tokens per minute, asked and answered


class HttpsInfo(Section, frozen=True):
    enable: bool = False
    pem_file: str = ""
    key_file: str = ""


class OpenAI(Section, frozen=True):
    api_url: HttpUrl = "https://api.openai.com"
    auth_url: HttpUrl = "https://auth0.openai.com"
    proxy_url: ProxyUrl = ""
    auth_proxy_url: ProxyUrl = ""
    cookie_path: str = ""
    chat_web_url: HttpUrl = "https://chatgpt.com"
    image_path: str = "data/images"
    pow: Literal["sha3", "fnv"] = "sha3"  # the web backend's proof of work: of 2024, of today
    api_keys: list[KeyEntry] = []
    web_sessions: list[SessionEntry] = []

    @property
    def sessions_path(self) -> str:
        return self.cookie_path or "data/sessions"


class GoogleGemini(Section, frozen=True):
    api_url: HttpUrl = "https://generativelanguage.googleapis.com"
    proxy_url: ProxyUrl = ""
    model: str = "gemini-2.5-flash"
    api_keys: list[GeminiKeyEntry] = []


class Bing(Section, frozen=True):
    web_url: HttpUrl = "https://www.bing.com"
    ws_url: WebsocketUrl = "wss://sydney.bing.com"
    proxy_url: ProxyUrl = ""


class CozeDiscord(Section, frozen=True):
    enable: bool = False
    api_url: HttpUrl = "https://discord.com"
    gateway_url: WebsocketUrl = "wss://gateway.discord.gg"
    guild_id: Name = ""
    channel_id: Name = ""
    chat_bot_token: Secret = ""
    coze_bot: list[Id] = []
    auth: list[Secret] = []
    request_out_time: SecondsOr0 = 300
    request_stream_out_time: SecondsOr0 = 300
    quiet_seconds: Seconds = 30  # an answer without buttons ends when it rested this long
    bridge_port: LocalPort = 8997  # on 127.0.0.1: where the workers find the one Discord session


class CozeBot(Section, frozen=True):
    bot_id: Id
    user: Id
    access_token: Secret = ""


class CozeApiChat(Section, frozen=True):
    version: Literal["v2", "v3"] = "v3"
    access_token: Secret = ""
    bots: list[CozeBot] = []


class Coze(Section, frozen=True):
    api_url: HttpUrl = "https://api.coze.com"
    proxy_url: ProxyUrl = ""
    discord: CozeDiscord = CozeDiscord()
    api_chat: CozeApiChat = CozeApiChat()


class Claude(Section, frozen=True):
    api_url: HttpUrl = "https://api.anthropic.com"
    web_url: HttpUrl = "https://claude.ai"
    proxy_url: ProxyUrl = ""
    api_version: Name = "2023-06-01"
    default_max_tokens: Annotated[
        int,
        Meta(gt=0, lt=2**31, description="a whole number above 0", examples=["8192"]),
    ] = 8192
    web_sessions: list[ClaudeSessionEntry] = []
    api_keys: list[KeyEntry] = []


class Timeouts(Section, frozen=True):
    """Seconds. `first_event` is per attempt and for streams; `total` spans all attempts."""

    request: Seconds = 30  # a caller's headers, and the longest pause in its body
    connect: Seconds = 10
    first_event: Seconds = 30
    idle: Seconds = 60
    total: Seconds = 900
    write: Seconds = 60  # a caller that does not read
    forward_idle: Seconds = 600  # forwarded routes: no byte either way
    keep_alive_comment: Seconds = 15


class Limits(Section, frozen=True):
    """Bytes, `request_bytes` counted after decompression; then, per worker, calls at a time."""

    request_bytes: Bytes = 32 * 1024 * 1024
    upload_bytes: Bytes = 512 * 1024 * 1024
    response_bytes: Bytes = 64 * 1024 * 1024
    image_folder_bytes: Bytes = 1024 * 1024 * 1024
    in_flight: Places = 1000
    queue: PlacesOr0 = 500
    queue_seconds: Seconds = 5


class AccessToken(Section, frozen=True):
    """Who may use the configured keys, and how much. Empty lists and 0 mean no restriction."""

    id: Id
    val: Token
    rpm: LimitOr0 = 0
    max_concurrent: LimitOr0 = 0
    providers: list[Literal["openai", "claude", "gemini", "bing", "coze"]] = []
    models: list[Pattern] = []


class Access(Section, frozen=True):
    tokens: list[AccessToken] = []
    protected: bool = True  # without tokens: only callers on this machine may use the keys


class Admin(Section, frozen=True):
    token: Token = ""  # without one, only callers on this machine may ask


class Holdback(Section, frozen=True):
    """How much of a stream is held back so that, if it breaks, another key can answer unseen."""

    tokens: Annotated[
        int,
        Meta(ge=0, le=100_000, description="a whole number, 0 for none", examples=["20"]),
    ] = 0
    seconds: Annotated[
        float,
        Meta(ge=0, le=60, description="seconds, 0 to 60; 0 for none", examples=["1.5"]),
    ] = 0


class Config(Section, frozen=True):
    port: Port = ":8999"
    host: Host = ""
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="a whole number from 0 (one per core) to 1024",
            examples=["4"],
        ),
    ] = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    transport: Literal["own", "httpx"] = "own"  # to plain APIs; httpx is there to compare
    https_info: HttpsInfo = HttpsInfo()
    hars_path: str = ""
    proxy_url: ProxyUrl = ""
    openai: OpenAI = OpenAI()
    google_gemini: GoogleGemini = GoogleGemini()
    arkose: Any = None  # accepted so that old files load; no challenge is solved here
    bing: Bing = Bing()
    coze: Coze = Coze()
    claude: Claude = Claude()
    access: Access = Access()
    trusted_proxies: list[Network] = []
    fallbacks: dict[ModelName, list[ModelName]] = {}  # other models, when a model's keys are spent
    fallback_after: SecondsOrOff = 0  # the next fallback is asked beside a silent upstream
    stream_holdback: Holdback = Holdback()
    state_path: str = "data/rests.json"  # what rests, for the next start
    redis_url: RedisUrl = ""  # several hosts share what rests
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    drain_seconds: Seconds = 60  # what open streams get when the gateway stops
    admin: Admin = Admin()
