"""The whole shape of the config file as structs. `app/config.py` reads it and points at mistakes.

Every key of the Go project's etc/c.yaml is here under its own name; keys that are newer are
optional and have the default that serves most people. Field names are the file's.
"""

from typing import Any

from msgspec import Struct


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping of the file; an unknown key in it is a mistake, not silence."""


class KeyEntry(Section, frozen=True):
    id: str
    val: str


class SessionEntry(Section, frozen=True):
    id: str
    val: str


class GeminiKeyEntry(Section, frozen=True):
    id: str
    val: str
    version: str = ""


class ClaudeSessionEntry(Section, frozen=True):
    id: str
    val: str
    organization_id: str = ""


class HttpsInfo(Section, frozen=True):
    enable: bool = False
    pem_file: str = ""
    key_file: str = ""


class OpenAI(Section, frozen=True):
    api_url: str = "https://api.openai.com"
    auth_url: str = "https://auth0.openai.com"
    proxy_url: str = ""
    auth_proxy_url: str = ""
    cookie_path: str = ""
    chat_web_url: str = "https://chatgpt.com"
    image_path: str = "data/images"
    api_keys: list[KeyEntry] = []
    web_sessions: list[SessionEntry] = []


class GoogleGemini(Section, frozen=True):
    api_url: str = "https://generativelanguage.googleapis.com"
    proxy_url: str = ""
    model: str = "gemini-2.5-flash"
    api_keys: list[GeminiKeyEntry] = []


class Bing(Section, frozen=True):
    web_url: str = "https://www.bing.com"
    ws_url: str = "wss://sydney.bing.com"
    proxy_url: str = ""


class CozeDiscord(Section, frozen=True):
    enable: bool = False
    api_url: str = "https://discord.com"
    gateway_url: str = "wss://gateway.discord.gg"
    guild_id: str = ""
    channel_id: str = ""
    chat_bot_token: str = ""
    coze_bot: list[str] = []
    auth: list[str] = []
    request_out_time: float = 300
    request_stream_out_time: float = 300


class CozeBot(Section, frozen=True):
    bot_id: str
    user: str
    access_token: str = ""


class CozeApiChat(Section, frozen=True):
    access_token: str = ""
    bots: list[CozeBot] = []


class Coze(Section, frozen=True):
    api_url: str = "https://api.coze.com"
    proxy_url: str = ""
    discord: CozeDiscord = CozeDiscord()
    api_chat: CozeApiChat = CozeApiChat()


class Claude(Section, frozen=True):
    api_url: str = "https://api.anthropic.com"
    web_url: str = "https://claude.ai"
    proxy_url: str = ""
    api_version: str = "2023-06-01"
    default_max_tokens: int = 8192
    web_sessions: list[ClaudeSessionEntry] = []
    api_keys: list[KeyEntry] = []


class Timeouts(Section, frozen=True):
    """Seconds. `first_event` is per attempt and for streams; `total` spans all attempts."""

    connect: float = 10
    first_event: float = 30
    idle: float = 60
    total: float = 900
    write: float = 60  # a caller that does not read
    forward_idle: float = 600  # forwarded routes: no byte either way
    keep_alive_comment: float = 15


class Limits(Section, frozen=True):
    """Bytes. `request_bytes` counts after decompression."""

    request_bytes: int = 32 * 1024 * 1024
    upload_bytes: int = 512 * 1024 * 1024
    response_bytes: int = 64 * 1024 * 1024


class Config(Section, frozen=True):
    port: str = ":8999"
    host: str = ""
    workers: int = 0  # 0: one per core
    log_level: str = "info"
    log_format: str = "json"
    https_info: HttpsInfo = HttpsInfo()
    hars_path: str = ""
    proxy_url: str = ""
    openai: OpenAI = OpenAI()
    google_gemini: GoogleGemini = GoogleGemini()
    arkose: dict[str, Any] = {}  # accepted so that old files load; no challenge is solved here
    bing: Bing = Bing()
    coze: Coze = Coze()
    claude: Claude = Claude()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
