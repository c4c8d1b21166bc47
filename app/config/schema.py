"""The schema of the config file as structs, one per section. `load.py` reads a file into them.

Every key of the Go project's etc/c.yaml is here under its own name; newer keys are optional, with
the default that suits most installations. Field names are the file's.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from app.config.field_types import (
    Bytes,
    Count,
    Credential,
    Days,
    HeaderName,
    HeaderValue,
    Host,
    HoursOr0,
    HttpUrl,
    Id,
    Ledger,
    LimitOr0,
    LocalPort,
    MemberName,
    ModelName,
    Name,
    Network,
    OneOrMoreModels,
    Pattern,
    Places,
    PlacesOr0,
    Port,
    ProxyUrl,
    RedisUrl,
    Seconds,
    SecondsOr0,
    SecondsOrOff,
    Secret,
    Section,
    Token,
    TokenId,
    TokensOr0,
    UpstreamName,
    UsdOr0,
    UsdPerMillion,
    WebsocketUrl,
)


class KeyEntry(Credential, frozen=True):
    """An API key of OpenAI or Claude."""


class SessionEntry(Credential, frozen=True):
    """A ChatGPT web session: `val` is its access token."""


class GeminiKeyEntry(Credential, frozen=True):
    """An API key of Gemini, with the version of the API it is used with ("": the default)."""

    version: Name = ""


class ClaudeSessionEntry(Credential, frozen=True):
    """A claude.ai web session: `val` is its sessionKey cookie."""

    organization_id: Name = ""
    max_concurrent: Count = 1


class HttpsInfo(Section, frozen=True):
    """`https_info`: TLS for callers."""

    enable: bool = False
    pem_file: str = ""
    key_file: str = ""


class OpenAI(Section, frozen=True):
    """`openai`: the API and the ChatGPT web backend."""

    api_url: HttpUrl = "https://api.openai.com"
    auth_url: HttpUrl = "https://auth0.openai.com"
    proxy_url: ProxyUrl = ""
    auth_proxy_url: ProxyUrl = ""
    cookie_path: str = ""
    chat_web_url: HttpUrl = "https://chatgpt.com"
    image_path: str = "data/images"
    # Models asked in Responses by every front; None: those that api.openai.com has in that alone.
    responses_models: list[Pattern] | None = None
    pow: Literal["sha3", "fnv"] = "sha3"  # proof of work of the web backend: of 2024 or current
    api_keys: list[KeyEntry] = []
    web_sessions: list[SessionEntry] = []

    @property
    def sessions_path(self) -> str:
        """The folder where web sessions are kept."""
        return self.cookie_path or "data/sessions"


class GoogleGemini(Section, frozen=True):
    """`google_gemini`: the Gemini API."""

    api_url: HttpUrl = "https://generativelanguage.googleapis.com"
    proxy_url: ProxyUrl = ""
    model: str = "gemini-2.5-flash"
    api_keys: list[GeminiKeyEntry] = []


class Bing(Section, frozen=True):
    """`bing`: the Bing chat web backend."""

    web_url: HttpUrl = "https://www.bing.com"
    ws_url: WebsocketUrl = "wss://sydney.bing.com"
    proxy_url: ProxyUrl = ""


class CozeDiscord(Section, frozen=True):
    """`coze.discord`: Coze bots behind a Discord channel."""

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
    quiet_seconds: Seconds = 30  # an answer without buttons ends after this long without an edit
    bridge_port: LocalPort = 8997  # on 127.0.0.1: where workers reach the one Discord session


class CozeBot(Section, frozen=True):
    """A Coze bot that is called through the API on behalf of `user`."""

    bot_id: Id
    user: Id
    access_token: Secret = ""


class CozeApiChat(Section, frozen=True):
    """`coze.api_chat`: the Coze API. Its access token serves bots without one of their own."""

    version: Literal["v2", "v3"] = "v3"
    access_token: Secret = ""
    bots: list[CozeBot] = []


class Coze(Section, frozen=True):
    """`coze`: the Coze API and the Discord bridge."""

    api_url: HttpUrl = "https://api.coze.com"
    proxy_url: ProxyUrl = ""
    discord: CozeDiscord = CozeDiscord()
    api_chat: CozeApiChat = CozeApiChat()


class Claude(Section, frozen=True):
    """`claude`: the Anthropic API and the claude.ai web backend."""

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


class UpstreamTimeouts(Section, frozen=True):
    """`upstreams[].timeouts`: what differs from `timeouts` for one upstream; 0: nothing."""

    first_event: SecondsOr0 = 0
    idle: SecondsOr0 = 0


class Upstream(Section, frozen=True):
    """An entry of `upstreams`: a host of OpenAI's chat wire.

    As the file has it; `app/config/upstreams.py` fills in what its preset knows. `api_keys` is None
    where the file says nothing about keys.
    """

    short_form: ClassVar[str] = "name"

    name: UpstreamName
    api_url: HttpUrl = ""
    api_version: Name = ""
    api_keys: list[KeyEntry] | None = None
    models: list[Pattern] = []
    like: UpstreamName = ""
    responses: Literal["", "native"] = ""  # native: it has /responses, which is used as it is
    headers: dict[HeaderName, HeaderValue] = {}
    drop: list[MemberName] = []
    proxy_url: ProxyUrl = ""
    timeouts: UpstreamTimeouts = UpstreamTimeouts()


class Timeouts(Section, frozen=True):
    """`timeouts`, in seconds. `first_event` is per attempt and for streams only; `total` spans all
    attempts of a call."""

    request: Seconds = 30  # to receive the request head; longest pause within the body
    connect: Seconds = 10
    first_event: Seconds = 30
    idle: Seconds = 60
    total: Seconds = 900
    write: Seconds = 60  # a caller that does not read its answer
    forward_idle: Seconds = 600  # reverse-proxy routes: no byte in either direction
    websocket_idle: Seconds = 900  # websockets: no byte in either direction
    websocket_total: Seconds = 7200  # from a websocket's handshake to its end
    keep_alive_comment: Seconds = 15


class Limits(Section, frozen=True):
    """`limits`: sizes in bytes (`request_bytes` after decompression), and concurrent calls per
    worker."""

    request_bytes: Bytes = 32 * 1024 * 1024
    upload_bytes: Bytes = 512 * 1024 * 1024
    response_bytes: Bytes = 64 * 1024 * 1024
    websocket_message_bytes: Bytes = 16 * 1024 * 1024
    image_folder_bytes: Bytes = 1024 * 1024 * 1024
    in_flight: Places = 1000
    queue: PlacesOr0 = 500
    queue_seconds: Seconds = 5


class Budget(Section, frozen=True):
    """`access.tokens[].budget`: what may be spent in a period, which is one of UTC's calendar."""

    usd: UsdOr0 = 0
    tokens: TokensOr0 = 0  # prompt and completion
    per: Literal["day", "week", "month"] = "month"
    unpriced: Literal["pass", "refuse"] = "pass"  # models of which no price is known


class TokenRights(Section, frozen=True, kw_only=True):
    """What an access token may do. Empty lists and 0 mean no restriction."""

    rpm: LimitOr0 = 0
    tpm: LimitOr0 = 0  # tokens per minute, prompt and completion
    max_concurrent: LimitOr0 = 0
    budget: Budget = Budget()
    providers: list[UpstreamName] = []
    models: list[Pattern] = []
    store: bool = True  # whether answers may be kept for the caller's next turn


class AccessToken(TokenRights, frozen=True, kw_only=True):
    """One caller's access token, and what it may do."""

    id: TokenId
    val: Token


class _Rates(Section, frozen=True, kw_only=True):
    """What a price and each of its steps may leave out."""

    cached: UsdPerMillion | None = None
    cache_write: UsdPerMillion | None = None
    cache_write_1h: UsdPerMillion | None = None
    reasoning: UsdPerMillion | None = None
    audio: UsdPerMillion | None = None
    audio_output: UsdPerMillion | None = None
    request: UsdPerMillion | None = None


class PriceStep(_Rates, frozen=True, kw_only=True):
    """An entry of `prices.NAME.MODEL.steps`: what differs, for all of a call, above so many prompt
    tokens."""

    above: Annotated[
        int,
        Meta(gt=0, le=2**31, description="a whole number of prompt tokens", examples=["200000"]),
    ]
    input: UsdPerMillion | None = None
    output: UsdPerMillion | None = None


class ModelPrice(_Rates, frozen=True, kw_only=True):
    """`prices.NAME.MODEL`: USD per million tokens, `request`: per million requests.

    Left out: `cached` and `cache_write` cost as `input`, `cache_write_1h` as `cache_write`,
    `reasoning` as `output`, `audio` and `audio_output` as text.
    """

    input: UsdPerMillion
    output: UsdPerMillion
    steps: list[PriceStep] = []


class Access(Section, frozen=True):
    """`access`: who may use the configured keys."""

    tokens: list[AccessToken] = []
    protected: bool = True  # without tokens: only callers on this machine may use the keys


class Admin(Section, frozen=True):
    """`admin`: the operator's routes."""

    token: Token = ""  # without one, only callers on this machine are admitted


class Responses(Section, frozen=True):
    """`responses`: what is kept of the answers of POST /c/v1/responses, so that callers can go on
    from one by its id. 0 hours: nothing, and no file is made."""

    keep_hours: HoursOr0 = 24
    path: str = "data/responses.db"


class Traces(Section, frozen=True):
    """`traces`: spans of calls, sent to a collector of OpenTelemetry as OTLP over HTTP."""

    endpoint: HttpUrl = ""  # none: off
    headers: dict[HeaderName, HeaderValue] = {}
    sample: Annotated[
        float,
        Meta(ge=0, le=1, description="a part of all calls, from 0 to 1", examples=["0.1"]),
    ] = 1
    propagate: bool = False  # upstreams are told the trace that a call belongs to


class Holdback(Section, frozen=True):
    """`stream_holdback`: how much of a stream is held back, so that a stream that breaks by then
    can be retried on another key without the caller noticing."""

    tokens: Annotated[
        int,
        Meta(ge=0, le=100_000, description="a whole number, 0 for none", examples=["20"]),
    ] = 0
    seconds: Annotated[
        float,
        Meta(ge=0, le=60, description="seconds, 0 to 60; 0 for none", examples=["1.5"]),
    ] = 0


class Config(Section, frozen=True):
    """The whole config file. See etc/c.yaml for what each key does."""

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
    transport: Literal["own", "httpx"] = "own"  # client for plain APIs; httpx is for comparison
    https_info: HttpsInfo = HttpsInfo()
    hars_path: str = ""
    proxy_url: ProxyUrl = ""
    openai: OpenAI = OpenAI()
    google_gemini: GoogleGemini = GoogleGemini()
    arkose: Any = None  # accepted so that old files load; no challenge is solved here
    bing: Bing = Bing()
    coze: Coze = Coze()
    claude: Claude = Claude()
    upstreams: list[Upstream] = []
    models: dict[ModelName, OneOrMoreModels] = {}  # alias or pattern -> what answers in its place
    prices: dict[UpstreamName, dict[Pattern, ModelPrice]] = {}  # instead of the shipped ones
    unknown_provider: Literal["openai", "refuse"] = "openai"  # a prefix that nobody is called by
    access: Access = Access()
    trusted_proxies: list[Network] = []
    fallbacks: dict[
        ModelName, list[ModelName]
    ] = {}  # tried in order when no key of a model answers
    fallback_after: SecondsOrOff = 0  # a silent upstream races with the next fallback
    stream_holdback: Holdback = Holdback()
    responses: Responses = Responses()
    state_path: str = "data/rests.json"  # cooldowns, kept over restarts
    ledger: Ledger = "data/usage.db"  # one row per call: who, what, how many tokens, what cost
    ledger_days: Days = 30  # how long rows are kept; sums are kept longer
    ledger_addresses: bool = False  # rows and the call log name the callers' addresses
    record_calls: Literal["off", "errors", "all"] = "off"  # whose prompts and answers are kept
    record_calls_path: str = "data/calls"
    record_calls_bytes: Bytes = 1024 * 1024 * 1024  # of the folder; the oldest calls go
    traces: Traces = Traces()
    redis_url: RedisUrl = ""  # several hosts share cooldowns
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    drain_seconds: Seconds = 60  # for open streams when the gateway stops
    admin: Admin = Admin()
